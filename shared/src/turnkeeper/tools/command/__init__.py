"""``shell``: listed commands with listed arguments, as argument vectors, never through a shell.

``arguments``  which command lines are allowed
``launcher``   the small program between us and the command: limits, no network, then exec
``process``    runs it and reads what it says, within time and size
``run``        the tool
"""
