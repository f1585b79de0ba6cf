"""What the stand-in answers where nobody scripted it: an agent on good behaviour. Pure.

=============  =======================================================================================================
``agent``      the next answer of a conversation: a fitting tool or two, then words, or ``end_task`` where it is offered
``choosing``   which tools fit a question, and which of them are left alone unless they are asked for by name
``values``     arguments that fit a tool's JSON schema, drawn from the question where it has them
``schemas``    what a JSON schema says in passing: types, samples, formats
``patterns``   a text that a regular expression matches
``queries``    a SELECT over the tables that a tool's description names
``reading``    words, shapes of identifiers, and what in a question looks like them
=============  =======================================================================================================

Everything is decided by the conversation alone, so that the same one gets the same answer from any process.
"""
