"""What a kit has started, on disk: written the moment it starts, read by whoever ends it."""

from __future__ import annotations

import copy
from typing import Any

from turnkeeper_local.kit.home import Home, read_json, write_json
from turnkeeper_local.kit.processes import OnStart, Started

_GRACE_SECONDS = {"worker": 10.0, "front_door": 3.0, "ministack": 60.0}
"""What the worker gets to bring its sessions to a safe point, the front door to end its streams, and the emulator to
write down its state. The others have nothing to save."""
_EMPTY: dict[str, Any] = {
    "settings": {}, "wanted": None, "deployed": None, "swapped": False, "emulator": None, "standin": None,
    "processes": {},
}  # fmt: skip


class Record:
    """The processes of one kit, in the order in which they were started, and what it was brought up as."""

    def __init__(self, home: Home, content: dict[str, Any]) -> None:
        self._home = home
        self._content = content

    @classmethod
    def read(cls, home: Home) -> Record:
        """The record of what is there; an empty one where nothing is."""
        return cls(home, {**copy.deepcopy(_EMPTY), **(read_json(home.kit_json) or {})})

    @property
    def wanted(self) -> str | None:
        """The fingerprint that the kit was brought up as, once it was up."""
        return str(self._content["wanted"]) if self._content["wanted"] else None

    @property
    def emulator(self) -> dict[str, Any] | None:
        """Where the emulator listens, or listened, and the first port that was asked for."""
        found: dict[str, Any] | None = self._content["emulator"]
        return found

    @property
    def settings(self) -> dict[str, str]:
        """What the last `up` was told, by the names of variables."""
        return dict(self._content["settings"])

    @property
    def deployed(self) -> dict[str, str] | None:
        """What the stacks made, once they were deployed."""
        found: dict[str, str] | None = self._content["deployed"]
        return found

    @property
    def swapped(self) -> bool:
        """Whether functions run other code than the stacks say, since an edit was made live without deploying them."""
        return bool(self._content["swapped"])

    @property
    def standin(self) -> dict[str, Any] | None:
        """The stand-in's address, and what it was started with."""
        found: dict[str, Any] | None = self._content["standin"]
        return found

    def note(self, **values: object) -> None:
        self._content.update(values)
        write_json(self._home.kit_json, self._content)

    def noting(self, name: str) -> OnStart:
        """What to tell of a process so that it is written down under `name`."""

        def on_start(process: Started) -> None:
            self._content["processes"][name] = process.to_json()
            self.note()

        return on_start

    @property
    def names(self) -> list[str]:
        """What processes are noted as."""
        return list(self._content["processes"])

    def process(self, name: str) -> Started | None:
        entry = self._content["processes"].get(name)
        return Started.from_json(entry) if entry else None

    def rename(self, old: str, new: str) -> None:
        """Let the process that was noted as `old` be `new`."""
        processes = self._content["processes"]
        if old in processes:
            processes[new] = processes.pop(old)
            self.note()

    def all_alive(self) -> bool:
        names = list(self._content["processes"])
        return bool(names) and all((process := self.process(name)) and process.alive() for name in names)

    def end(self, *names: str, at_once: bool = False) -> bool:
        """End these processes, or all, latest first; whether there were any. `at_once` lets them save nothing."""
        ended = False
        for name in reversed(list(self._content["processes"])):
            process = self.process(name)
            if process is not None and (not names or name in names):
                process.end(0 if at_once else _GRACE_SECONDS.get(name, 2.0))
                del self._content["processes"][name]
                ended = True
        if ended:
            self.note()
        return ended
