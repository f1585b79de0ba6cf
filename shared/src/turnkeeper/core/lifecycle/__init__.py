"""Every change of a session's state, as a pure function: from the state and what happened to the state that follows.

Nothing else makes a head of another. Most functions return a :class:`~turnkeeper.core.lifecycle.change.Change`: the
state that follows, with all that has to be written in the same transaction. Those that return a bare ``Head`` change
what only the runner knows until its next write.

::

    create ──> running | queued ──claim──> running ──> begin_call, answer, book, ... ──> rest | hand_off
                    ^                                                                       │
                    └──────────── begin_turn | go_on (at rest), send_again (lost) <─────────┘

``taking`` has what begins or goes on with a turn, ``running`` what a runner does, ``leaving`` how a runner, or
everybody, lets go of a session.
"""
