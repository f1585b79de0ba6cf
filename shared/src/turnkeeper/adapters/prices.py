"""The port Prices over the bundled snapshot of genai-prices and a deployment's own prices. No network, no floats."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from typing import Any, TypeVar

from turnkeeper.adapters.price_options import CallOptions, ServerTool
from turnkeeper.adapters.price_overrides import US_FACTOR, PriceOverride
from turnkeeper.adapters.tariff import MTOK, Row, Tariff, bundled_tariff
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.core.usage import Usage
from turnkeeper.ports import Rates

#: A price that changes this soon may be the one that a call is settled at.
_FORESIGHT = timedelta(days=1)
#: What is reckoned once is kept for this many of its kind, and by no longer names: clients of the gateway send tools of
#: megabytes, no two alike.
_MOST_KEPT = 1_000
_LONGEST_KEPT = 10_000

K = TypeVar("K", bound=tuple[object, ...])
V = TypeVar("V")


class BundledPrices:
    """Prices a call by its model's name, its options, and what the answer's usage says.

    A model, an option or a kind of usage that nobody here can price raises UnpricedModel. A deployment's own price of
    a model replaces the snapshot's as a whole.

    ``default_inference_geo`` is what the account's workspace is set to: with ``"us"``, calls that do not name a
    geography are priced as being in the US.
    """

    def __init__(
        self,
        overrides: Mapping[str, PriceOverride] | None = None,
        *,
        default_inference_geo: str = "global",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._overrides = dict(overrides or {})
        self._default_geo = default_inference_geo
        self._now = now
        #: Each step asks for the same again: by model, options as they are written, and days.
        self._asked: dict[tuple[str, str], CallOptions] = {}
        self._rates: dict[tuple[str, str, date, date], Rates] = {}
        self._tariffs: dict[tuple[str, str, str, str, date], Tariff] = {}
        self._version: str | None = None

    @property
    def version(self) -> str:
        """Changes whenever a price may: the snapshot's version, and a hash of the overrides where there are any."""
        if self._version is None:
            source = f"genai-prices-{version('genai-prices')}"
            if self._overrides or self._default_geo != "global":
                own: dict[str, Any] = {
                    name: entry.model_dump(mode="json", exclude={"context_window"})
                    for name, entry in self._overrides.items()
                }
                text = sorted_json([self._default_geo, own], ascii=True, spaced=True)
                source += f"+{hashlib.sha256(text).hexdigest()[:12]}"
            self._version = source
        return self._version

    def rates(self, model: str, options: Mapping[str, Any]) -> Rates:
        """Server tools count where they are among ``options["tools"]``, one-hour caching where ``options`` say
        ``"ttl": "1h"`` anywhere."""
        now = self._now()
        days = now.date(), (now + _FORESIGHT).date()
        return _kept(self._rates, (model, repr(options), *days), lambda: self._reckon(model, options, now))

    def _reckon(self, model: str, options: Mapping[str, Any], now: datetime) -> Rates:
        asked = self._read(model, options)
        row: Row | None = None
        search_nanousd: int | None = None
        window: int | None = None
        # Fast calls may fall back to standard speed; never assume that that is cheaper.
        for speed in {"standard", asked.speed}:
            for ahead in (timedelta(0), _FORESIGHT):
                tariff = self._tariff(model, speed, "standard", self._geo(asked.inference_geo), now + ahead)
                row = tariff.dearest() if row is None else row.dearest(tariff.dearest())
                if tariff.search_nanousd is not None:
                    search_nanousd = max(search_nanousd or 0, tariff.search_nanousd)
                window = tariff.window
        assert row is not None
        samplings = 2 if asked.compacts else 1
        input_nanousd = max(row.fresh, row.cache_read, row.write_5m, row.write_1h if asked.one_hour_cache else 0)
        return Rates(
            model=model,
            version=self.version,
            input_nanousd=input_nanousd * samplings,
            output_nanousd=row.output * samplings,
            fixed_nanousd=sum(_at_most(model, tool, search_nanousd, input_nanousd) for tool in asked.server_tools),
            window=window,
        )

    def cost_nanousd(self, model: str, usage: Mapping[str, Any], options: Mapping[str, Any]) -> int:
        """The usage's own word on speed, tier and geography counts before that of the options."""
        asked = self._read(model, options)
        tariff = self._tariff(
            model,
            str(usage.get("speed") or asked.speed),
            str(usage.get("service_tier") or "standard"),
            self._geo(usage.get("inference_geo") or asked.inference_geo),
            self._now(),
        )
        try:
            _only_known(model, usage)
            # What the API read and wrote to summarize stands beside the counts of the answer itself.
            samplings = [usage, *(part for part in usage.get("iterations") or () if part.get("type") == "compaction")]
            return sum(_tokens_nanousd(tariff, each) for each in samplings) + _searches(model, usage, tariff)
        except (AttributeError, TypeError, ValueError) as error:
            raise UnpricedModel(f"{model}: nobody here can read this usage.", model=model) from error

    def _geo(self, named: object) -> str:
        # Models from before there was a choice answer "not_available".
        return str(named) if named not in (None, "", "not_available") else self._default_geo

    def _tariff(self, model: str, speed: str, tier: str, geo: str, at: datetime) -> Tariff:
        key = (model, speed, tier, geo, at.date())
        return _kept(self._tariffs, key, lambda: self._look_up(model, speed, tier, geo, at))

    def _read(self, model: str, options: Mapping[str, Any]) -> CallOptions:
        return _kept(self._asked, (model, repr(options)), lambda: CallOptions.read(model, options))

    def _look_up(self, model: str, speed: str, tier: str, geo: str, at: datetime) -> Tariff:
        if speed not in ("standard", "fast"):
            raise UnpricedModel(f"{model}: nobody here can price the speed {speed!r}.", model=model)
        if tier not in ("standard", "priority", "batch"):
            raise UnpricedModel(f"{model}: nobody here can price the service tier {tier!r}.", model=model)
        if geo not in ("global", "us"):
            raise UnpricedModel(f"{model}: nobody here can price the inference geography {geo!r}.", model=model)
        override = self._overrides.get(model)
        tariff = _own(override, speed) if override else _bundled(model, speed, tier, at)
        if tariff is None:
            variant = " in fast mode" if speed == "fast" else ""
            raise UnpricedModel(
                f"No price is known for {model}{variant}: check the name, or set one in policy.toml under "
                f'[models."{model}"].',
                model=model,
            )
        if geo == "us":
            return tariff.times(override.us_factor if override else US_FACTOR)
        return tariff


def _kept(known: dict[K, V], key: K, make: Callable[[], V]) -> V:
    if (found := known.get(key)) is None:
        found = make()
        if all(len(part) <= _LONGEST_KEPT for part in key if isinstance(part, str)):
            if len(known) >= _MOST_KEPT:
                known.clear()
            known[key] = found
    return found


def _tokens_nanousd(tariff: Tariff, usage: Mapping[str, Any]) -> int:
    tokens = Usage.of(dict(usage))
    by_age = usage.get("cache_creation") or {}
    write_1h = int(by_age.get("ephemeral_1h_input_tokens") or 0)
    write_5m = int(by_age.get("ephemeral_5m_input_tokens") or 0)
    # Writes of unknown age are counted at the lower age, which is the API's default.
    write_5m = max(write_5m, tokens.cache_creation_input_tokens - write_1h)
    total = tokens.input_tokens + tokens.cache_read_input_tokens + write_5m + write_1h
    row = tariff.row(total)
    amount = (
        tokens.input_tokens * row.fresh
        + tokens.cache_read_input_tokens * row.cache_read
        + write_5m * row.write_5m
        + write_1h * row.write_1h
        + tokens.output_tokens * row.output
    )
    return _per_mtok(amount)


def _own(override: PriceOverride, speed: str) -> Tariff | None:
    if speed == "standard":
        return override.tariff()
    return None if override.fast_factor is None else override.tariff().times(override.fast_factor)


def _bundled(model: str, speed: str, tier: str, at: datetime) -> Tariff | None:
    if speed == "fast":
        return bundled_tariff(model, at, {"speed": "fast"})
    if tier == "batch":
        # Without a price for batches the full one is the safe one.
        return bundled_tariff(model, at, {"processing": "batch"}) or bundled_tariff(model, at, {})
    return bundled_tariff(model, at, {})


def _at_most(model: str, tool: ServerTool, search_nanousd: int | None, input_nanousd: int) -> int:
    if tool.kind == "web_search":
        if search_nanousd is None:
            raise UnpricedModel(f"No price is known for web search with {model}.", model=model)
        return tool.max_uses * search_nanousd
    return _per_mtok(tool.max_uses * tool.max_content_tokens * input_nanousd)


def _searches(model: str, usage: Mapping[str, Any], tariff: Tariff) -> int:
    count = int((usage.get("server_tool_use") or {}).get("web_search_requests") or 0)
    if not count:
        return 0
    if tariff.search_nanousd is None:
        raise UnpricedModel(f"No price is known for web search with {model}.", model=model)
    return count * tariff.search_nanousd


#: Server tools that cost nothing but their tokens.
_FREE_USES = frozenset({"web_fetch_requests", "tool_search_requests"})


def _only_known(model: str, usage: Mapping[str, Any]) -> None:
    for name, count in (usage.get("server_tool_use") or {}).items():
        if count and name != "web_search_requests" and name not in _FREE_USES:
            raise UnpricedModel(f"{model}: nobody here can price {name!r}.", model=model)
    for part in usage.get("iterations") or ():
        # Advisors are billed beside the counts of the answer itself, at prices of their own.
        if part.get("type", "message") not in ("message", "compaction"):
            raise UnpricedModel(f"{model}: nobody here can price an iteration of type {part['type']!r}.", model=model)


def _per_mtok(amount: int) -> int:
    return -(-amount // MTOK)
