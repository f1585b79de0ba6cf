"""The front door: a line of stages between a server and the kit.

::

    handler, gateway   the Lambda, and API Gateway's events
    serve, asgi        the server, and an ASGI application for any; issuer checks its callers' tokens, streaming sends
                       what happens as it does
    app                routes, identifies, calls, and makes a problem document of an error
    stages/            identify, read, once, begin, wait, tell: the line calls each, and none calls back
    turns              the line of all calls that begin a turn; sessions, events, spend: shorter ones
    past               those that look back
    bodies, documents  what is sent and answered
    routes             the table of all calls, which OpenAPI is made of

A new call is a row in ``routes`` and a function: in ``stages/begin`` where it begins a turn, else beside the calls like
it. What it takes or answers anew goes into ``bodies`` or ``documents``.
"""

import os

from functions.starting import IN_LAMBDA

if IN_LAMBDA:
    # A front door has no plugins of pydantic's: to look for them is to read what each installed package says of itself.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
