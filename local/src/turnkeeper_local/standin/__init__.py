"""The stand-in model: speaks the Messages API over HTTP and takes its behaviour from a script.

For a machine without a key. It refuses what the API refuses, counts what it is sent, streams as the API
streams, and answers what the conversation's directives or a scenario file tell it, and on good behaviour where none do.

==================  =====================================================================================
``directives``      the script language inside a user's text, parsed; pure
``conversation``    which message is the script, and how much of it has been played; pure
``scenario``        the scenario file: answers for conversations that carry no directives
``behaving``        what an agent on good behaviour does: answers for those that no rule fits either
``validate*``       what the API answers 400 to; ``pairing`` for tool_use and tool_result
``tokens``          its own count of what it was sent; ``cache`` splits that into cached and fresh
``reply``           an answer becomes a message; ``sse`` a message becomes a stream
``faults``          failures, cuts and refusals, by conversation: its only memory beside the prompt cache
``strict_json``     JSON as the API's parser takes it
``server``          HTTP: headers, routes, delays, broken streams
==================  =====================================================================================

Started as ``python -m turnkeeper_local.standin --port N``; prints ``{"base_url": ...}`` once it listens.
"""
