"""Bars of the peers and lines of growth, as SVG. Without matplotlib, which is in the extra `bench`, there are none."""

from __future__ import annotations

import importlib.util
import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers.figures import best, latency, loads
from bench.peers.roster import OURS, PEERS
from bench.peers.run import Findings, fastest

FOLDER = Path(__file__).parents[1] / "plots"
OWN_COLOUR, OTHER_COLOUR = "#c0392b", "#7f8c8d"
LINE_COLOURS = ("#2980b9", "#27ae60", "#f39c12", "#8e44ad", "#2c3e50")
"""Of others, where each has a line."""


def _canvas(count: int = 1) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("svg")
    # Text as text, and nothing random or dated in the file: it is kept beside the results.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, count, figsize=(5.2 * count, 3.4), layout="constrained")
    return figure, axes


def _save(figure: Any, name: str) -> str:
    from matplotlib import pyplot

    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return f"{FOLDER.name}/{path.name}"


def _bars(axes: Any, values: Mapping[str, float], title: str) -> None:
    peers = sorted((peer for peer in PEERS if peer.key in values), key=lambda peer: values[peer.key])
    heights = [max(values[peer.key], 1.0) for peer in peers]
    colours = [OWN_COLOUR if peer.kind == OURS else OTHER_COLOUR for peer in peers]
    bars = axes.barh([peer.name for peer in peers], heights, color=colours)
    axes.bar_label(bars, [f"{height:,.0f}" for height in heights], padding=2)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_title(title)


def peers(found: Findings) -> list[str]:
    """Files, as results.md links to them."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    drawn = []
    figure, (left, right) = _canvas(2)
    _bars(left, {key: best(sessions) for key, sessions in found.memory.items()}, "jobs/s end to end, in memory")
    _bars(right, {key: best(sessions) for key, sessions in found.durable.items()}, "jobs/s end to end, durable")
    drawn.append(_save(figure, "end-to-end"))
    figure, (left, right) = _canvas(2)
    pickups = {key: statistics.median(p for s in sessions for p in s.pickups) / 1_000 for key, sessions in found.memory.items()}
    _bars(left, pickups, "pickup p50, µs, 1 idle worker")
    _bars(right, {key: statistics.median(each) for key, each in found.queued.items()}, "bytes for each queued job")
    drawn.append(_save(figure, "pickup-and-memory"))
    return [*drawn, *_under_load(found)]


def _under_load(found: Findings) -> list[str]:
    """Latency by throughput, of the fastest: a line for each, from its least load to its greatest."""
    curves = {}
    for peer in fastest(found, PEERS):
        measured = found.memory.get(peer.key, [])
        shares = sorted({load.share for session in measured for load in session.loads})
        if len(shares) > 1:
            curves[peer] = [latency(loads(measured, share)) for share in shares]
    if not curves:
        return []
    figure, axes = _canvas(2)
    for axis, which in zip(axes, ("p50", "p99"), strict=True):
        colours = itertools.cycle(LINE_COLOURS)
        for peer, points in curves.items():
            heights = [getattr(point, which) for point in points]
            style = {"color": OWN_COLOUR, "linewidth": 2.0} if peer.kind == OURS else {"color": next(colours)}
            axis.plot(
                [point.offered for point in points], heights, marker="o", markersize=3, label=peer.name if which == "p50" else None, **style
            )
        axis.set_yscale("log")
        axis.set_xlim(left=0)
        axis.set_xlabel("jobs/s offered, in memory")
        axis.set_title(f"{which} from due to handler, µs")
    figure.legend(loc="outside lower center", ncols=len(curves))
    return [_save(figure, "under-load")]


def lines(name: str, title: str, unit: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str | None:
    """One plot of lines over a logarithmic axis."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    figure, axes = _canvas()
    for label, points in series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(title)
    axes.set_ylabel(unit)
    figure.legend(loc="outside upper center", ncols=2)
    return _save(figure, name)
