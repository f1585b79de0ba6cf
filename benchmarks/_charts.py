"""What is kept in `benchmarks/results` as tables and as charts in SVG. `make docs` writes them into docs/performance.md
and docs/performance/.

Grey of a middle tone on nothing, so that they can be read on a light page and on a dark one, whichever a browser says
that it prefers.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pygal
from pygal.graph.horizontal import HorizontalGraph
from pygal.style import Style

from benchmarks._results import KEPT

# pygal adds a finder of modules that is of Python 2's kind; pytest's own imports stumble over it.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

Told = Mapping[str, Any]
#: Of which series a figure is and at which place; at ``None`` it is at all of them: a line across.
Place = tuple[str, str | None] | None

_GREY: Final = "#75787d"
#: Which series stand first and last.
FIRST: Final = "turnkeeper"
LAST: Final = "all else"
PEERS: Final = "items of a peer"
_LINES: Final = "#75787d40"
#: Comments, which have the date in them, and what is for scripts: none is there.
_NOT_DRAWN: Final = re.compile(r"<!--.*?-->|/\*.*?\*/|<script.*?</script>", re.DOTALL)
_COLOURS: Final = ("#3b82c4", "#8a8d91", "#d9822b", "#b8960b", "#9b6bb3", "#c0629a", "#3f9e6e", "#c9564b")
STYLE: Final = Style(
    background="transparent",
    plot_background="transparent",
    foreground=_GREY,
    foreground_strong=_GREY,
    foreground_subtle=_GREY,
    guide_stroke_color=_LINES,
    major_guide_stroke_color=_LINES,
    guide_stroke_dasharray="none",
    major_guide_stroke_dasharray="none",
    opacity="1",
    opacity_hover="1",
    transition="0s",
    stroke_width="3",
    colors=_COLOURS,
    value_colors=(_GREY,) * len(_COLOURS),
    font_family="system-ui, sans-serif",
    title_font_size=17,
    label_font_size=14,
    major_label_font_size=14,
    legend_font_size=14,
    value_font_size=14,
)


@dataclass(frozen=True)
class Chart:
    """Figures by series and place: a chart where it has a kind, and a table."""

    title: str
    #: Whose results it is made of.
    benchmarks: tuple[str, ...]
    place: Callable[[Told], Place]
    kind: type[Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Series that only the table has.
    only_told: tuple[str, ...] = ()

    def svg(self, figures: Sequence[Told]) -> str:
        told = [figure for figure in figures if (at := self.place(figure)) and at[0] not in self.only_told]
        places, series = self._placed(told)
        assert self.kind is not None
        chart = self.kind(style=STYLE, title=self.title, **{**COMMON, **self.settings})
        chart.uuid = "chart"
        # Those that lie begin at the bottom.
        ordered = places[::-1] if issubclass(self.kind, HorizontalGraph) else places
        chart.x_labels = ordered
        for name, values in series.items():
            found = [values.get(where, values.get(None)) for where in ordered]
            chart.add(name, [at and _whole(at)[0] for at in found])
        return _NOT_DRAWN.sub("", str(chart.render(is_unicode=True))) + "\n"

    def table(self, figures: Sequence[Told]) -> str:
        places, series = self._placed(figures)
        cells = [
            [_cell(*_whole(told)) if (told := values.get(where, values.get(None))) else "" for where in places]
            for values in series.values()
        ]
        if len(series) == 1:  # stands upright
            return _table(self.title, [""], {where: [cell] for where, cell in zip(places, cells[0], strict=True)})
        return _table(self.title, places, dict(zip(series, cells, strict=True)))

    def _placed(self, figures: Sequence[Told]) -> tuple[list[str], dict[str, dict[str | None, list[Told]]]]:
        places: dict[str, None] = {}
        series: dict[str, dict[str | None, list[Told]]] = {}
        for figure in figures:
            if (at := self.place(figure)) is not None:
                name, where = at
                places |= {where: None} if where is not None else {}
                series.setdefault(name, {}).setdefault(where, []).append(figure)
        ordered = sorted(series, key=lambda name: (name != FIRST, name == LAST))
        return list(places), {name: series[name] for name in ordered}


def _table(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    head = [f"| {corner} | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    return "\n".join([*head, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())])


def _whole(told: Sequence[Told]) -> tuple[float, float, float]:
    """Median, least and most of what stands at one place together."""
    median, least, most = (sum(figure[name] for figure in told) for name in ("median", "least", "most"))
    return median, least, most


def _cell(median: float, least: float, most: float) -> str:
    return short(median) if least == most else f"{short(median)} ({short(least)} to {short(most)})"


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


COMMON: Final[Mapping[str, Any]] = {
    "js": (),
    "width": 860,
    "height": 440,
    "margin_right": 50,
    "margin_bottom": 30,
    "dots_size": 4,
    "max_scale": 8,
    "legend_at_bottom": True,
    "legend_at_bottom_columns": 3,
    "truncate_legend": -1,
    "truncate_label": -1,
    "disable_xml_declaration": True,
    "pretty_print": True,
    "show_x_guides": False,
    "formatter": short,
}
BARS: Final[Mapping[str, Any]] = {"show_legend": False}


def _cpu_a_step(kilobytes: float) -> Callable[[Told], Place]:
    def place(figure: Told) -> Place:
        if (figure["what"], figure.get("kilobytes")) != ("a step", kilobytes):
            return None
        return figure["of"], f"step {figure['step']:g}" if "step" in figure else None

    return place


def _units_a_step(figure: Told) -> Place:
    part = figure["what"].removeprefix("units").removesuffix("a step").strip()
    if figure["unit"] != "write units" or figure.get("kilobytes") != 1.5:
        return None
    ours = figure["of"] == "turnkeeper"
    # The whole of the kit's is the sum of its parts; the peers' items are of no known kind.
    return (part.removeprefix("of ") if ours else PEERS, figure["of"]) if ours == bool(part) else None


def _ready(figure: Told) -> Place:
    if figure["kind"] != "cpu":
        return None
    what = figure["what"].replace(" ready", "")
    return "CPU", what if figure["of"] == FIRST else f"{what}, {figure['of']}"


def _capacity(figure: Told) -> Place:
    lost = "lost" in figure["what"] and figure["unit"] == "%"
    return (
        (f"{figure['processes']:g} process{'es' * (figure['processes'] > 1)}", f"{figure['sessions']:g} sessions")
        if lost
        else None
    )


def _injection(figure: Told) -> Place:
    return ("CPU", figure["of"]) if figure["what"] == "a check, a KB" else None


def _price(figure: Told) -> Place:
    if figure["what"] != "a million turns" or "item" not in figure:
        return None
    item = figure["item"].partition(":")[0]
    return item if item in PRICED else LAST, figure["of"].replace("`", "")


PRICED: Final = ("table", "front door", "turn runner", "worker")

STEP: Final = ("step", "step_peers")
CHARTS: Final[Mapping[str, Chart]] = {
    "step-cpu": Chart(
        "ms of CPU a step, results of 1.5 KB",
        STEP,
        _cpu_a_step(1.5),
        pygal.Line,
        {"logarithmic": True, "y_labels": (1, 2, 5, 10, 20, 50, 100, 200)},
        only_told=("floor without validation", "turnkeeper, model in the process"),
    ),
    "step-cpu-large": Chart("ms of CPU a step, results of 40 KB", STEP, _cpu_a_step(40)),
    "step-units": Chart("write units a step", STEP, _units_a_step, pygal.HorizontalStackedBar, only_told=(PEERS,)),
    "ready": Chart("ms of CPU until ready", ("ready",), _ready, pygal.HorizontalBar, BARS),
    "capacity": Chart("steps lost, %", ("capacity",), _capacity, pygal.Line),
    "injection": Chart("ms of CPU a KB, texts of 40 KB", ("injection",), _injection, pygal.HorizontalBar, BARS),
    "price": Chart("USD for a million turns of three steps", ("cost",), _price, pygal.HorizontalStackedBar),
}
#: Told one by one.
LISTED: Final = ("waiting", "streaming", "gateway")


def charts(kept: Path = KEPT) -> dict[str, str]:
    """SVG by name, of those whose results are there."""
    drawn = {name: chart for name, chart in CHARTS.items() if chart.kind and _any(chart, kept)}
    return {name: chart.svg(figures(*chart.benchmarks, kept=kept)) for name, chart in drawn.items()}


def documentation(kept: Path = KEPT) -> dict[str, str]:
    """The generated parts of docs/performance.md, by name."""
    parts = dict.fromkeys((*CHARTS, *LISTED), "Not measured.")
    for name, chart in CHARTS.items():
        if _any(chart, kept):
            image = f"![{chart.title}](performance/{name}.svg)\n\n" if chart.kind else ""
            parts[name] = image + chart.table(figures(*chart.benchmarks, kept=kept)) + _told_of(chart.benchmarks, kept)
    for name in LISTED:
        if found := figures(name, kept=kept):
            parts[name] = "\n".join(_rows(found)) + _told_of([name], kept)
    return parts


def _any(chart: Chart, kept: Path) -> bool:
    return any(chart.place(figure) for figure in figures(*chart.benchmarks, kept=kept))


def _rows(found: Sequence[Told]) -> Iterator[str]:
    known = {"kind", "what", "unit", "median", "least", "most", "rounds"}
    yield "| | at the median | least to most | rounds |\n|---|---:|---:|---:|"
    for figure in found:
        at = [
            value if isinstance(value, str) else f"{key} {value:g}" for key, value in figure.items() if key not in known
        ]
        spread = f"{short(figure['least'])} to {short(figure['most'])}" if figure["rounds"] > 1 else ""
        told = f"{short(figure['median'])} {figure['unit']}"
        yield f"| {', '.join([figure['what'], *at])} | {told} | {spread} | {figure['rounds']} |"


def _told_of(benchmarks: Sequence[str], kept: Path) -> str:
    loads: dict[str, list[str]] = {}
    for told in results(*benchmarks, kept=kept):
        machine, python = told["machine"], told["versions"]["python"]
        where = (
            f"{told['date'][:10]}, `{told['commit']}`, Python {python}, {machine['cores']} cores of {machine['cpu']}"
        )
        loads.setdefault(where, []).append(str(machine["load"]))
    lines = [f"{where} under a load of {' and '.join(each)}" for where, each in loads.items()]
    return f"\n\nMeasured {'; '.join(lines)}."


def figures(*benchmarks: str, kept: Path = KEPT) -> list[Told]:
    return [figure for told in results(*benchmarks, kept=kept) for figure in told["figures"]]


def results(*benchmarks: str, kept: Path = KEPT) -> list[Told]:
    paths = [path for name in benchmarks if (path := kept / f"{name}.json").exists()]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
