"""The main job, end to end, on a kit of its own: `turnkeeper demo`.

==============  ====================================================================================================
``run``         brings the kit up, plays the parts, tells what happened, takes the kit down again
``parts``       six parts, seven with the Claude Agent SDK, each with what has to be true
``script``      what is said: directives for the stand-in model, natural questions for Claude
``checks``      what has to be true of every transcript
``report``      the timeline with its costs
==============  ====================================================================================================
"""
