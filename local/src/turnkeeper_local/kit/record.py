"""What a kit has started, on disk: written the moment it starts, read by whoever ends it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import Home, read_json, write_json
from turnkeeper_local.kit.processes import OnStart, Started

_GRACE_SECONDS = {"worker": 10.0, "front_door": 3.0, "ministack": 60.0}
"""What the worker gets to bring its sessions to a safe point, the front door to end its streams, and the emulator to
write down its state. The others have nothing to save."""
_USED: dict[str, dict[str, Any]] = {
    "deployed": {"table_name": str, "model_secret_id": str},
    "emulator": {"endpoint_url": str, "first_port": int, "started_at": int | float},
    "standin": {"url": str},
}
"""What is asked of parts of a record, whichever version of the kit has written it."""


@dataclass
class Record:
    """The processes of one kit, in the order in which they were started, and what it was brought up as."""

    home: Home
    settings: dict[str, str] = field(default_factory=dict)
    """What the last `up` was told, by the names of variables."""
    wanted: str | None = None
    """The fingerprint that the kit was brought up as, once it was up."""
    deployed: dict[str, str] | None = None
    """What the stacks made, once they were deployed."""
    swapped: bool = False
    """Whether functions run other code than the stacks say, since an edit was made live without deploying them."""
    emulator: dict[str, Any] | None = None
    """Where the emulator listens, or listened, and the first port that was asked for."""
    standin: dict[str, Any] | None = None
    """The stand-in's address, and what it was started with."""
    serving: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The processes of `turnkeeper serve` here, by their ids, each as one of `processes`: they run, or did."""
    processes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, home: Home) -> Record:
        """The record of what is there; an empty one where nothing is.

        Raises:
            KitError: the file is none that a kit has written. Taken for an empty one, it would leave processes behind,
                and lose what is kept.
        """
        content = read_json(home.kit_json)
        if content is None and not home.kit_json.exists():
            return cls(home)
        if content is None or not _is_whole(content):
            raise KitError(
                f"{home.kit_json} is not as a kit writes it, so what was started here is not known. "
                f"End what `ps` shows of {home.path}, and remove the file: "
                f"what is kept in {home.state} stays, and is there at the next up"
            )
        known = {each.name for each in fields(cls)}
        return cls(home, **{name: value for name, value in content.items() if name in known})

    def note(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        write_json(self.home.kit_json, {name: value for name, value in vars(self).items() if name != "home"})

    def noting(self, name: str) -> OnStart:
        """What to tell of a process so that it is written down under `name`."""

        def on_start(process: Started) -> None:
            self.processes[name] = process.to_json()
            self.note()

        return on_start

    def process(self, name: str) -> Started | None:
        entry = self.processes.get(name)
        return Started.from_json(entry) if entry else None

    def rename(self, old: str, new: str) -> None:
        """Let the process that was noted as `old` be `new`."""
        if old in self.processes:
            self.processes[new] = self.processes.pop(old)
            self.note()

    def all_alive(self) -> bool:
        return bool(self.processes) and all(
            (process := self.process(name)) and process.alive() for name in self.processes
        )

    def end(self, *names: str, at_once: bool = False) -> bool:
        """End these processes, or all, latest first; whether there were any. `at_once` lets them save nothing."""
        ended = False
        for name in reversed(list(self.processes)):
            process = self.process(name)
            if process is not None and (not names or name in names):
                process.end(0 if at_once else _GRACE_SECONDS.get(name, 2.0))
                del self.processes[name]
                ended = True
        if ended:
            self.note()
        return ended


def _is_whole(content: dict[str, Any]) -> bool:
    settings, processes, serving = (content.get(name, {}) for name in ("settings", "processes", "serving"))
    if not all(isinstance(each, dict) for each in (settings, processes, serving)):
        return False
    return (
        all(isinstance(value, str) for value in settings.values())
        and all(_has(each, {"pid": int, "started": str}) for each in (*processes.values(), *serving.values()))
        and all(_has(content[part], kinds) for part, kinds in _USED.items() if content.get(part) is not None)
    )


def _has(part: object, kinds: dict[str, Any]) -> bool:
    return isinstance(part, dict) and all(isinstance(part.get(name), kind) for name, kind in kinds.items())
