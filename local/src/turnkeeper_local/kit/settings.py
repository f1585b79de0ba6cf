"""What a user can choose about a local kit, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.ports import DEFAULT_FIRST_PORT
from turnkeeper_project import find_project

ANTHROPIC_URL = "https://api.anthropic.com"
KEY = "ANTHROPIC_API_KEY"
VARIABLES = {
    "TURNKEEPER_PORT": "first_port",
    "TURNKEEPER_TURN_SECONDS": "turn_seconds",
    "TURNKEEPER_LEASE_SECONDS": "lease_seconds",
    "TURNKEEPER_WORKER_CONCURRENCY": "worker_concurrency",
    "TURNKEEPER_WORKER_PROCESSES": "worker_processes",
    "TURNKEEPER_AUTO_PLACEMENT": "auto_placement",
    "TURNKEEPER_FETCH_CONTENTS": "fetch_contents",
    "TURNKEEPER_AGENTS": "agents",
    "TURNKEEPER_SCENARIO": "scenario",
    "TURNKEEPER_LOG_LEVEL": "log_level",
    "TURNKEEPER_MODEL_URL": "model_url",
    "TURNKEEPER_OTLP_ENDPOINT": "otlp_endpoint",
    "TURNKEEPER_TRACE_CONTENTS": "trace_contents",
    "TURNKEEPER_CORS_ORIGINS": "cors_origins",
    "TURNKEEPER_STREAM_SECONDS": "stream_seconds",
    "TURNKEEPER_GATEWAY_WAIT_SECONDS": "gateway_wait_seconds",
}


@dataclass(frozen=True)  # no slots: the defaults are read from the class below
class KitSettings:
    """One kit's settings, checked."""

    first_port: int = DEFAULT_FIRST_PORT
    """0 takes any free ones, which is what tests want."""
    turn_seconds: float = 840
    lease_seconds: int = 60
    worker_concurrency: int = 16
    worker_processes: int = 1
    auto_placement: str = "latency"
    """`economy` offers turns to the worker first, whose agents leave it open where they run."""
    fetch_contents: bool = True
    agents: str = ""
    allow_broken: bool = True
    """Deploy although an agent cannot be loaded, or would fail in every turn: the others work."""
    scenario: str | None = None
    log_level: str = "INFO"
    anthropic_api_key: str | None = None
    """With a key Claude answers; without, the stand-in."""
    key_kept: bool = False
    """Claude answers, with the key that an earlier `up` has put where the kit keeps its secrets."""
    model_url: str | None = None
    """A Messages API to use instead of starting the stand-in, or with a key, instead of Anthropic's."""
    otlp_endpoint: str = ""
    """Where traces of turns go, by OTLP over HTTP; nobody makes any without it."""
    trace_contents: str = ""
    """Agents whose traces may hold what was said, with commas between; `*` for all."""
    cors_origins: str = ""
    """Origins whose pages may call the front door at `stream_url` from a browser, with commas between."""
    stream_seconds: float = 840
    """How long a stream stays open; who reads on connects again."""
    gateway_wait_seconds: float = 30
    """How long a call through the gateway waits for money in flight."""
    project: Path = field(default_factory=lambda: find_project().root)
    """The repository that holds `agents/` and `policy.toml`."""
    source_root: Path | None = None
    """A tree of the kit's repository to run instead of the kit that is installed: for tests of the kit itself."""

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, remembered: Mapping[str, str] | None = None
    ) -> KitSettings:
        """Read `TURNKEEPER_*` and the model's settings; a value that makes no sense is refused by name.

        What the environment does not name is as `remembered` (see `variables`); a variable that it sets to nothing goes
        back to its default.
        """
        recalled = still_meant(remembered or {}, environment)
        environment = {**recalled, **environment}
        key_kept = KEY in recalled
        if environment.get("TURNKEEPER_MODEL_PROVIDER", "anthropic") != "anthropic":
            raise KitError(
                "the local kit cannot use Bedrock: its Lambdas have no AWS credentials but the emulator's. "
                "Set ANTHROPIC_API_KEY, or unset TURNKEEPER_MODEL_PROVIDER for the stand-in."
            )
        scenario = environment.get("TURNKEEPER_SCENARIO")
        if scenario and not Path(scenario).is_file():
            raise KitError(f"TURNKEEPER_SCENARIO: there is no file {scenario}")
        agents = [str(Path(part).resolve()) for part in environment.get("TURNKEEPER_AGENTS", "").split(":") if part]
        for folder in agents:
            if not Path(folder).is_dir():
                raise KitError(f"TURNKEEPER_AGENTS: there is no folder {folder}")
        return cls(
            first_port=_number(environment, "TURNKEEPER_PORT", cls.first_port, 0, 65_000),
            turn_seconds=_seconds(environment, "TURNKEEPER_TURN_SECONDS", cls.turn_seconds, 870),
            lease_seconds=_number(environment, "TURNKEEPER_LEASE_SECONDS", cls.lease_seconds, 1, 43_200),
            worker_concurrency=_number(environment, "TURNKEEPER_WORKER_CONCURRENCY", cls.worker_concurrency, 1, 1000),
            worker_processes=_number(environment, "TURNKEEPER_WORKER_PROCESSES", cls.worker_processes, 1, 64),
            auto_placement=_one_of(
                environment, "TURNKEEPER_AUTO_PLACEMENT", cls.auto_placement, ("latency", "economy")
            ),
            fetch_contents=_switch(environment, "TURNKEEPER_FETCH_CONTENTS", cls.fetch_contents),
            agents=os.pathsep.join(agents),
            allow_broken=_switch(environment, "TURNKEEPER_ALLOW_BROKEN", cls.allow_broken),
            scenario=str(Path(scenario).resolve()) if scenario else None,
            log_level=_one_of(environment, "TURNKEEPER_LOG_LEVEL", cls.log_level, _LEVELS),
            anthropic_api_key=None if key_kept else environment.get(KEY) or None,
            key_kept=key_kept,
            otlp_endpoint=_address(environment, "TURNKEEPER_OTLP_ENDPOINT"),
            trace_contents=environment.get("TURNKEEPER_TRACE_CONTENTS", ""),
            cors_origins=environment.get("TURNKEEPER_CORS_ORIGINS", ""),
            stream_seconds=_seconds(environment, "TURNKEEPER_STREAM_SECONDS", cls.stream_seconds, 870),
            gateway_wait_seconds=_seconds(
                environment, "TURNKEEPER_GATEWAY_WAIT_SECONDS", cls.gateway_wait_seconds, 300
            ),
            model_url=_address(environment, "TURNKEEPER_MODEL_URL")
            or _address(environment, "ANTHROPIC_BASE_URL")
            or None,
        )

    @property
    def more_agents(self) -> list[Path]:
        """Further folders of agents, beside the project's own."""
        return [Path(part) for part in self.agents.split(os.pathsep) if part]

    @property
    def uses_standin(self) -> bool:
        return self.anthropic_api_key is None and not self.key_kept and self.model_url is None

    def variables(self) -> dict[str, str]:
        """What differs from the defaults, by the variables that choose it; of the key only that there is one."""
        defaults = {each.name: each.default for each in fields(self)}
        told = {
            name: str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
            for name, attribute in VARIABLES.items()
            if (value := getattr(self, attribute)) != defaults[attribute]
        }
        if self.anthropic_api_key or self.key_kept:
            told[KEY] = "kept"
        return {name: str(value) for name, value in told.items()}


def still_meant(remembered: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """What is remembered and not chosen anew."""
    chosen = set(environment)
    if "ANTHROPIC_BASE_URL" in environment:
        chosen.add("TURNKEEPER_MODEL_URL")
    return {name: value for name, value in remembered.items() if name not in chosen}


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _one_of(environment: Mapping[str, str], key: str, default: str, values: Sequence[str]) -> str:
    text = environment.get(key, "").strip() or default
    if text not in values:
        raise KitError(f"{key} must be {', '.join(values[:-1])} or {values[-1]}, not {text!r}")
    return text


def _address(environment: Mapping[str, str], key: str) -> str:
    text = environment.get(key, "").strip()
    if text and not text.startswith(("http://", "https://")):
        raise KitError(f"{key} must be an address such as http://127.0.0.1:4318, not {text!r}")
    return text


def _switch(environment: Mapping[str, str], key: str, default: bool) -> bool:
    text = environment.get(key, "").strip().lower() or str(default).lower()
    if text not in {"true", "false"}:
        raise KitError(f"{key} must be true or false, not {text!r}")
    return text == "true"


def _number(environment: Mapping[str, str], key: str, default: int, at_least: int, at_most: int) -> int:
    text = environment.get(key, "").strip()
    if not text:
        return default
    # No longer than a number in these bounds is: Python reads none of thousands of digits.
    if not text.isdecimal() or len(text) > 9 or not at_least <= int(text) <= at_most:
        raise KitError(f"{key} must be a whole number from {at_least} to {at_most}, not {text!r}")
    return int(text)


def _seconds(environment: Mapping[str, str], key: str, default: float, at_most: float) -> float:
    text = environment.get(key, "").strip()
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = 0
    if not 0 < seconds <= at_most:
        raise KitError(f"{key} must be a number of seconds, at most {at_most:g}, not {text!r}")
    return seconds
