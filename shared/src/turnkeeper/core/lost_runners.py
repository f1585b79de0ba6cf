"""Runners that are gone without a word: what is known of one, and the names that they are known by."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class OpenCall(BaseModel):
    """A tool call that no entry answers yet."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    tool_use_id: str
    tool: str


class LostRunner(BaseModel):
    """A runner that was gone without a word, and who noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str
    #: When it took the session, where it left no entry that tells so.
    claimed_at: str | None = None
    #: When it last extended its lease.
    last_heard_at: str
    #: ``sweep``: nobody yet; the session was put on its way to another runner.
    taken_over_by: Literal["lambda", "fargate", "sweep"]
    taken_over_by_id: str | None = None
    #: Calls that it may have made. What became of each the results tell that follow.
    open_calls: tuple[OpenCall, ...] = ()


#: Characters of a name, and of a token that stands in the place of one.
_MAX_NAME = 80
_TOKEN = 12


def owner_of(name: str, token: str) -> str:
    """Who holds a lease: the process, for people to find it, and the token of this very claim."""
    return f"{name[:_MAX_NAME]}/{token}" if name else token


def runner_id(owner: str) -> str:
    """The process that a lease's owner names; the beginning of its token where it names none."""
    name, _, token = owner.rpartition("/")
    return name or token[:_TOKEN]
