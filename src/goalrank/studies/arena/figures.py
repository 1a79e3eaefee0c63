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
from goalrank.reporting import BASELINE, TRAINED, Bar, bar_chart, line_chart, save_figure
from goalrank.studies.arena.leaderboards import Leaderboard, load_leaderboards
from goalrank.studies.arena.ledger import Ledger
from goalrank.studies.arena.runner import stored_plan

_NAMES = {"mg_e": "MG-E, different generators", "mg_e_copies": "MG-E, copies", "clig": "CLIG"}


def plot(
    folder: str | Path, out: str | Path | None = None, metric: str | None = None
) -> list[Path]:
    """Draw quality over k, and all rows as bars, for each leaderboard.

    Args:
        folder: of `run_suite`.
        out: folder of the figures; None takes `figures/` in `folder`.
        metric: with or without "@L"; None takes that of the suite.

    Returns:
        The files (SVG).

    Raises:
        DataError: there is nothing to draw.
    """
    place = Path(out) if out is not None else Path(folder) / "figures"
    return draw_leaderboards(load_leaderboards(folder, metric), folder, place)


def draw_leaderboards(
    leaderboards: Sequence[Leaderboard], folder: str | Path, place: Path
) -> list[Path]:
    """Draw the figures of `plot` for leaderboards that were loaded before.

    Args:
        leaderboards: of `load_leaderboards`.
        folder: of `run_suite`.
        place: folder of the figures.

    Returns:
        The files (SVG).
    """
    place.mkdir(parents=True, exist_ok=True)
    settings = _settings(folder)
    made = []
    for leaderboard in leaderboards:
        name = (
            leaderboard.dataset
            if leaderboard.size == "base"
            else f"{leaderboard.dataset}-{leaderboard.size}"
        )
        made.append(save_figure(_bars(leaderboard), place / f"{name}-rows.svg"))
        if (figure := generators_figure(leaderboard, settings)) is not None:
            made.append(save_figure(figure, place / f"{name}-generators.svg"))
    if not made:
        raise DataError(f"'{folder}' has no finished row to draw")
    return [Path(p) for p in made if p is not None]


def _settings(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Row label → its options."""
    table = Ledger(folder).read(cell.key for cell in stored_plan(folder))
    rows = table.select("ranker", "row_settings").unique("ranker").iter_rows()
    return {label: json.loads(text)["options"] for label, text in rows}


def generators_figure(leaderboard: Leaderboard, settings: dict[str, dict[str, Any]]) -> Any:
    """Draw the metric over k for multi-generators, with the main row as a horizontal line.

    Bands are one standard deviation over seeds up and down.

    Args:
        leaderboard: the leaderboard.
        settings: label of row → its options.

    Returns:
        A matplotlib Figure; None without multi-generators.
    """
    points: dict[str, list[tuple[int, float, float]]] = {}
    for row in leaderboard.rows:
        k = settings.get(row.label, {}).get("k")
        if row.kind in _NAMES and k is not None:
            value = 100 * row.means.get(leaderboard.metric, math.nan)
            deviation = 100 * row.deviations.get(leaderboard.metric, math.nan)
            points.setdefault(_NAMES[row.kind], []).append((int(k), value, deviation))
    if not points:
        return None
    main = leaderboard.row(leaderboard.main)
    if main is not None:
        level = 100 * main.means[leaderboard.metric]
        deviation = 100 * main.deviations.get(leaderboard.metric, math.nan)
        ks = [k for each in points.values() for k, _, _ in each]
        points[leaderboard.main] = [(k, level, deviation) for k in (min(ks), max(ks))]
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {}
    spread: dict[str, ArrayLike] = {}
    for name in (*_NAMES.values(), leaderboard.main):  # a kind has one colour in all figures
        if name not in points:
            continue
        x, y, spread[name] = np.array(sorted(points[name])).T
        series[name] = (x, y)
    figure = line_chart(
        series,
        xlabel="k, number of generators",
        ylabel=f"{leaderboard.metric}, %",
        title=leaderboard.dataset,
        logx=True,
        markers=True,
        spread=spread,
    )
    every = sorted({k for each in points.values() for k, _, _ in each})
    axes = figure.axes[0]
    axes.set_xticks(every, labels=[str(k) for k in every])
    axes.minorticks_off()
    return figure


def _bars(leaderboard: Leaderboard) -> Any:
    bars = []
    for row in leaderboard.rows:
        mean = 100 * row.means.get(leaderboard.metric, math.nan)
        spread = 100 * row.deviations.get(leaderboard.metric, math.nan)
        group = "baseline" if row.baseline else "trained"
        bars.append(Bar(row.label, mean, mean - spread, mean + spread, group))
    return bar_chart(
        bars, colors={"trained": TRAINED, "baseline": BASELINE}, xlabel=f"{leaderboard.metric}, %"
    )
