"""The charts of a report: scores, changes of files, and groups, for light and for dark pages."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_diffusion.evaluation.measures import METRICS
from signal_diffusion.plots.curves import INPUT
from signal_diffusion.plots.spectrograms import DRAWING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]

#: Letters, and lines of the axes, on light and on dark pages; nothing else has these colours.
LIGHT, DARK = ("#333a45", "#aab4c2"), ("#d5dbe5", "#5b6675")
STYLE = (
    "<style>svg {{ color: {}; --line: {} }} "
    "@media (prefers-color-scheme: dark) {{ svg {{ color: {}; --line: {} }} }}</style>"
).format(*LIGHT, *DARK)
#: Of methods, readable on both; the untouched input is grey.
PALETTE = ("#3584d6", "#e0702a", "#3f9c4b", "#a06be0", "#c9a400", "#d1558f", "#1fa5a5")
BETTER, WORSE = "#3584d6", "#d9534f"
#: Inches: narrow, since a phone shows charts at about this width.
WIDTH, LINE = 4.0, 0.34
LONGEST_NAME, MOST_BINS = 20, 30


@dataclass(frozen=True)
class Chart:
    """A chart as the data URI of an SVG, and what it shows, in words."""

    image: str
    title: str
    alt: str


def shown(metric: str, value: float | None, *, sign: str = "") -> str:
    """A score as text, with a real minus but where it is 0; "–" where there is none.

    >>> shown("estoi", -0.0712, sign="+"), shown("pesq", -1e-9), shown("pesq", None)
    ('−7.1', '0.00', '–')
    """
    if value is None:
        return "–"
    text = METRICS[metric].shown(value, sign=sign)
    return text.replace("-", "−" if is_seen(text) else sign)


def is_seen(text: str) -> bool:
    """Whether a number as text differs from 0.

    >>> is_seen("+0.00"), is_seen("-0.01")
    (False, True)
    """
    return any(digit in text for digit in "123456789")


def better_by(metric: str, change: float) -> float:
    """A change of a score, positive where it is for the better.

    >>> better_by("pesq", 0.5), better_by("prd", 0.5)
    (0.5, -0.5)
    """
    return change if METRICS[metric].higher else -change


def colours_of(methods: Sequence[str], given: str) -> dict[str, str]:
    """A colour for each method; the input's is grey."""
    others = [name for name in methods if name != given]
    own = {name: PALETTE[at % len(PALETTE)] for at, name in enumerate(others)}
    return {name: own.get(name, INPUT) for name in methods}


def scores_chart(scores: Scores, metric: str, colours: Mapping[str, str]) -> Chart:
    """The mean of each method, with its interval."""
    scored = {name: found[metric] for name, found in scores.items() if metric in found}

    def draw(axes: Axes) -> None:
        for at, (name, found) in enumerate(scored.items()):
            _mark(axes, metric, found, at, colours[name])
        _names(axes, list(scored))

    title = f"{METRICS[metric].heading} by method"
    means = "; ".join(f"{name} {shown(metric, found['mean'])}" for name, found in scored.items())
    title += f", {METRICS[metric].direction}"
    return _chart(draw, len(scored), title, f"{title}. Means: {means}.")


def changes_chart(changes: Sequence[float], metric: str) -> Chart:
    """How many files a model changed by how much, those made worse in another colour."""
    from matplotlib.ticker import MaxNLocator

    scaled = METRICS[metric].scale * np.asarray(changes, np.float64)
    edges = _edges(scaled)
    counts = np.histogram(scaled, edges)[0]
    middles = (edges[:-1] + edges[1:]) / 2
    fills = [BETTER if better_by(metric, middle) > 0 else WORSE for middle in middles]

    def draw(axes: Axes) -> None:
        axes.bar(middles, counts, np.diff(edges) * 0.94, color=fills)
        axes.axvline(0, color=axes.xaxis.label.get_color(), lw=1)
        axes.set_xlabel(f"change of {METRICS[metric].heading}")
        axes.set_ylabel("files")
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))

    better = sum(better_by(metric, change) > 0 for change in changes)
    title = f"Change of {METRICS[metric].heading}, file by file"
    text = f"Better in {better} of {len(changes)} files"
    span = f"from {scaled.min():+.3g} to {scaled.max():+.3g}, median {np.median(scaled):+.3g}"
    return _chart(draw, 6, f"{title}. {text}.", f"{title}: {text.lower()}; {span}.")


def group_chart(
    values: Mapping[str, Scores], group: str, metric: str, colours: Mapping[str, str]
) -> Chart:
    """The means of all methods by the values of a group: lines over numbers, or else rows."""
    numbers = _numbers(list(values))

    def draw(axes: Axes) -> None:
        for name, colour in colours.items():
            found = {
                at: s[name][metric]
                for at, s in enumerate(values.values())
                if name in s and metric in s[name]
            }
            if numbers is None:
                for at, one in found.items():
                    _mark(axes, metric, one, at, colour)
            else:
                _curve(axes, metric, {numbers[at]: one for at, one in found.items()}, colour)
        if numbers is None:
            _names(axes, list(values))
        else:
            axes.set_xlabel(group, parse_math=False)
            axes.set_ylabel(METRICS[metric].heading)

    title = f"{METRICS[metric].heading} by {group}, {METRICS[metric].direction}"
    rows = len(values) if numbers is None else 7
    text = f"{title}, for {', '.join(colours)} at {', '.join(values)}."
    return _chart(draw, rows, title, f"{text} The numbers are in the table below.")


def _numbers(words: Sequence[str]) -> list[float] | None:
    """Words as numbers, if all are numbers and there are several."""
    try:
        found = [float(word) for word in words]
    except ValueError:
        return None
    return found if len(found) > 1 and np.isfinite(found).all() else None


def _edges(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Edges of bins, one of which is 0, so that no bin holds both better and worse."""
    count = int(np.clip(2 * np.sqrt(len(values)), 6, MOST_BINS))
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    width = (high - low) / count or 1.0
    below, above = int(np.ceil(-low / width - 1e-9)), int(np.ceil(high / width - 1e-9))
    return width * np.arange(-below, max(above, 1 - below) + 1)


def _scaled(metric: str, value: float) -> float:
    return METRICS[metric].scale * value


def _mark(axes: Axes, metric: str, found: Mapping[str, float], at: int, colour: str) -> None:
    """A dot at a mean, and a bar for its interval."""
    if "low" in found:
        ends = [_scaled(metric, found[end]) for end in ("low", "high")]
        axes.plot(ends, [at, at], color=colour, lw=5, alpha=0.35, solid_capstyle="butt")
    axes.plot([_scaled(metric, found["mean"])], [at], "o", color=colour, ms=7)


def _curve(
    axes: Axes, metric: str, found: Mapping[float, Mapping[str, float]], colour: str
) -> None:
    """Means over numbers, with their intervals as a band."""
    places = sorted(found)
    means = [_scaled(metric, found[x]["mean"]) for x in places]
    low, high = (
        [_scaled(metric, found[x].get(end, found[x]["mean"])) for x in places]
        for end in ("low", "high")
    )
    axes.fill_between(places, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(places, means, color=colour, marker="o", ms=5, lw=1.6)


def _names(axes: Axes, names: Sequence[str]) -> None:
    """Names down the upright axis, the first at the top."""
    short = [n if len(n) <= LONGEST_NAME else f"{n[: LONGEST_NAME - 1]}…" for n in names]
    axes.set_yticks(range(len(names)), short, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)


def data_uri(kind: str, content: bytes) -> str:
    """Content as an address that holds it.

    >>> data_uri("text/plain", b"one")
    'data:text/plain;base64,b25l'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _chart(draw: Callable[[Axes], None], rows: int, title: str, alt: str) -> Chart:
    """A chart whose letters and lines have other colours on dark pages."""
    import matplotlib
    from matplotlib.figure import Figure

    letters, lines = LIGHT
    given: dict[Any, Any] = {
        **dict.fromkeys(("text.color", "axes.labelcolor"), letters),
        **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), letters),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), lines),
        "axes.facecolor": "none",
        "font.size": 10.5,
        "svg.hashsalt": "report",
        "svg.fonttype": "path",
    }
    with DRAWING, matplotlib.rc_context(given), warnings.catch_warnings():
        # Names may be in a script that matplotlib's fonts lack: it draws boxes, and says so.
        warnings.filterwarnings("ignore", "Glyph")
        size = (WIDTH, 0.75 + LINE * min(max(rows, 3), 22))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.35, lw=0.6)
        axes.set_axisbelow(True)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    for colour, name in zip(LIGHT, ("currentColor", "var(--line)"), strict=True):
        svg = svg.replace(colour, name)
    before, tag, after = svg.partition("<defs>")
    return Chart(data_uri("image/svg+xml", f"{before}{STYLE}{tag}{after}".encode()), title, alt)
