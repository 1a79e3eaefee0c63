"""Figures of a benchmark's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from goalrank.errors import DataError
from goalrank.reporting import RULE, TRAINED, Bar, bar_chart, line_chart, save_figure
from goalrank.studies.arena.leaderboards import Leaderboard, load_leaderboards
from goalrank.studies.arena.ledger import Ledger

_NAMES = {"mg_e": "MG-E, different generators", "mg_e_copies": "MG-E, copies", "clig": "CLIG"}


def plot(
    folder: str | Path, out: str | Path | None = None, metric: str | None = None
) -> list[Path]:
    """Draw k against quality, and all rows as bars, a board each; returns the files (SVG).

    Args:
        out: where to; None is `figures/` inside the folder.

    Raises:
        DataError: there is nothing to draw.
    """
    place = Path(out) if out is not None else Path(folder) / "figures"
    return draw_boards(load_leaderboards(folder, metric), folder, place)


def draw_boards(boards: Sequence[Leaderboard], folder: str | Path, place: Path) -> list[Path]:
    """`plot` for the boards that a folder gave."""
    place.mkdir(parents=True, exist_ok=True)
    settings = _settings(folder)
    made = []
    for board in boards:
        name = board.dataset if board.size == "base" else f"{board.dataset}-{board.size}"
        made.append(save_figure(_bars(board), place / f"{name}-rows.svg"))
        if (figure := generators_figure(board, settings)) is not None:
            made.append(save_figure(figure, place / f"{name}-generators.svg"))
    if not made:
        raise DataError(f"'{folder}' has no finished row to draw")
    return [Path(p) for p in made if p is not None]


def _settings(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Row label → its options."""
    table = Ledger(folder).read()
    rows = table.select("ranker", "row_settings").unique("ranker").iter_rows()
    return {label: json.loads(text)["options"] for label, text in rows}


def generators_figure(board: Leaderboard, settings: dict[str, dict[str, Any]]) -> Any:
    """k against the metric for multi-generators, the main row as a level line; None without them.

    Bands are one deviation over seeds up and down.
    """
    points: dict[str, list[tuple[int, float, float]]] = {}
    for line in board.lines:
        k = settings.get(line.label, {}).get("k")
        if line.kind in _NAMES and k is not None:
            value = 100 * line.means.get(board.metric, math.nan)
            deviation = 100 * line.deviations.get(board.metric, math.nan)
            points.setdefault(_NAMES[line.kind], []).append((int(k), value, deviation))
    if not points:
        return None
    main = board.line(board.main)
    if main is not None:
        level = 100 * main.means[board.metric]
        deviation = 100 * main.deviations.get(board.metric, math.nan)
        ks = [k for each in points.values() for k, _, _ in each]
        points[board.main] = [(k, level, deviation) for k in (min(ks), max(ks))]
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {}
    spread: dict[str, ArrayLike] = {}
    for name in (*_NAMES.values(), board.main):  # a kind has one colour in all figures
        if name not in points:
            continue
        x, y, spread[name] = np.array(sorted(points[name])).T
        series[name] = (x, y)
    figure = line_chart(
        series,
        xlabel="k, number of generators",
        ylabel=f"{board.metric}, %",
        title=board.dataset,
        logx=True,
        markers=True,
        spread=spread,
    )
    every = sorted({k for each in points.values() for k, _, _ in each})
    axes = figure.axes[0]
    axes.set_xticks(every, labels=[str(k) for k in every])
    axes.minorticks_off()
    return figure


def _bars(board: Leaderboard) -> Any:
    bars = []
    for line in board.lines:
        mean = 100 * line.means.get(board.metric, math.nan)
        spread = 100 * line.deviations.get(board.metric, math.nan)
        group = "rule" if line.rule else "trained"
        bars.append(Bar(line.label, mean, mean - spread, mean + spread, group))
    return bar_chart(bars, colors={"trained": TRAINED, "rule": RULE}, xlabel=f"{board.metric}, %")
