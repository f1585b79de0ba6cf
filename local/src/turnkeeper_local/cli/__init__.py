"""`turnkeeper`: the command line, for the local kit and for deployed ones.

==============  ====================================================================================================
``main``        the program: one module of ``commands`` for each group of commands
``place``       which kit: the one in ``local.json``, or ``--stack NAME`` in an account
``api``         the HTTP API, as any client sees it
``operator``    what an operator does to table and queue directly
``output``      how a command answers: for people, or one JSON document (lines, where it is a stream); exit codes
``demo``        the main job, end to end, with every part checked
==============  ====================================================================================================

Modules import what they need when a command runs, so that `turnkeeper --help` stays fast.
"""
