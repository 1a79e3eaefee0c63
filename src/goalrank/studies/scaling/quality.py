"""How right a reward model must be for one generator to beat an evaluator with many lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from numpy.typing import ArrayLike

from goalrank.errors import ConfigError, DataError
from goalrank.reporting import Table, legend_outside, line_chart, make_columns, save_figure
from goalrank.studies.scaling.table import (
    cells_of_row,
    gain_text,
    mean_with_spread,
    world_cells,
)

_QUALITY = "correlation_random"
_MANY = 20  # lists; fewer help nobody who pays for an evaluator
# Cells of one world and one set of requests have one near-optimum, to rounding.
_PAIR = ("size", "data", "seed", "world")
_ROW = ("suite", "ranker", "size", "data", "world")


@dataclass(frozen=True)
class BreakEven:
    """Where the sign of a gain changes, among the qualities that were measured.

    Attributes:
        lost: highest quality at which an evaluator stands level with or above the row; None = at none.
        won: lowest quality above `lost`; from here on the row stands above every evaluator.
            None = `lost` is the highest quality measured.
        exceptions: number of qualities below `lost` at which the row stands above every evaluator.
    """

    lost: float | None
    won: float | None
    exceptions: int


def evaluators_by_quality(
    folders: Sequence[str | Path], *, against: str = "goalrank"
) -> pl.DataFrame:
    """Gain of a row over every evaluator that chooses among lists, beside the reward's quality.

    Quality is the rank correlation (Spearman) of the reward model's values and the true rewards of
    random lists of a request, mean over requests: 1 = the true order, 0 = chance. Both rows of a
    pair have one size, number of requests, seed and world; an evaluator without such a partner has
    no gain and 0 seeds. Cells whose reward model was not measured are left out.

    Args:
        folders: that `run_scaling` wrote, of one or several worlds.
        against: label of the row.

    Returns:
        Suite, ranker, size, data, near-optimum (world), paired seeds, quality, method, choices
        (lists that the evaluator chooses from), gain (true reward of the row minus the
        evaluator's, mean over seeds) and its deviation; worst quality first.

    Raises:
        ConfigError: no row has that label, or it has several group sizes.
        DataError: no finished cell on a world, or no evaluator with a measured reward model beside
            the row.
    """
    frame = world_cells(folders)
    places = [str(folder) for folder in folders]
    if not {"method", "choices", _QUALITY} <= set(frame.columns):
        raise DataError(
            f"no evaluator that chooses among lists in {places}; remedy: a suite with rows such as "
            "best_of_100 or mg_e_20"
        )
    frame = frame.with_columns(pl.col("best").round(6).alias("world"))
    rows = cells_of_row(frame, against)
    if rows.select(_PAIR).is_duplicated().any():
        raise ConfigError(
            f"row '{against}' has several groups or suites for one size, number of requests and "
            "seed, so there is no one row to compare with; remedy: fewer folders (option: --against)"
        )
    rows = rows.select(*_PAIR, pl.col("true_reward").alias("reference"))
    chosen = frame.filter((pl.col("choices") > 1) & pl.col(_QUALITY).is_not_null())
    paired = chosen.join(rows, on=_PAIR, how="left")
    if paired["reference"].is_null().all():
        raise DataError(
            f"no evaluator has the size, number of requests, seed and world of a row '{against}' in "
            f"{places}; remedy: add the folder of that row"
        )
    gain = pl.col("reference") - pl.col("true_reward")
    return (
        paired.group_by(_ROW)
        .agg(
            gain.count().alias("seeds"),
            pl.col(_QUALITY).mean().alias("quality"),
            pl.col("method", "choices").first(),
            gain.mean().alias("gain"),
            gain.std().alias("deviation"),
        )
        .sort("quality", *_ROW)
    )


def break_even(table: pl.DataFrame) -> BreakEven:
    """Find where the row begins to stand above the best evaluator of each world and data size.

    Args:
        table: of `evaluators_by_quality`; evaluators without a partner say nothing.
    """
    places = (
        table.drop_nulls("gain")
        .group_by("world", "size", "data")
        .agg(pl.col("quality").mean(), pl.col("gain").min())
    )
    lost = places.filter(pl.col("gain") <= 0)["quality"].to_list()
    won = places.filter(pl.col("gain") > 0)["quality"].to_list()
    last = max(lost, default=None)
    above = [quality for quality in won if last is None or quality > last]
    return BreakEven(last, min(above, default=None), len(won) - len(above))


def quality_markdown(table: pl.DataFrame, *, against: str = "goalrank") -> str:
    """`evaluators_by_quality` for people, with the break-even in a sentence.

    Args:
        table: of `evaluators_by_quality`.
        against: its row.
    """
    edge = break_even(table)
    if edge.won is None:
        said = (
            f"an evaluator is level with or above {against} up to the highest quality measured, "
            f"{edge.lost:.2f}"
        )
    elif edge.lost is None:
        said = f"{against} stands above every evaluator at every quality measured, from {edge.won:.2f} on"
    else:
        said = (
            f"{against} stands above every evaluator from a quality of {edge.won:.2f} on; at "
            f"{edge.lost:.2f} one is level with or above it"
        )
    if edge.exceptions:
        said += f" (lower than that it is above all in {edge.exceptions} of the worlds and sizes)"
    intro = (
        "quality: rank correlation of the reward model's values and the true rewards of random lists; "
        f"gain: {against}'s true reward minus the row's, mean over paired seeds ± deviation; "
        f"–: no {against} of that size, number of requests, seed and world"
    )
    head = ("quality", "row", "lists chosen from", "suite", "size", "requests", "seeds", "gain")
    body = []
    for row in table.iter_rows(named=True):
        gain = mean_with_spread(row["gain"], row["deviation"], gain_text)
        body.append(
            [f"{row['quality']:.3f}", row["ranker"], f"{row['choices']:,}", row["suite"],
             str(row["size"]), f"{row['data']:,}", str(row["seeds"]), gain]
        )  # fmt: skip
    return f"{said}\n\n{intro}\n\n{Table(make_columns(*head), body).markdown()}\n"


def draw_by_quality(table: pl.DataFrame, path: str | Path, *, against: str = "goalrank") -> Path:
    """Draw the gain over each evaluator against the reward's quality, ± one deviation over seeds.

    Evaluators of fewer than 20 lists are left to the table, unless there are no others.

    Args:
        table: of `evaluators_by_quality`.
        path: a .png or .svg file.
        against: its row.

    Raises:
        ConfigError: another kind of file.
    """
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {}
    spread: dict[str, ArrayLike] = {}
    known = table.drop_nulls("gain")
    many = known.filter(pl.col("choices") >= _MANY)
    ordered = (known if many.is_empty() else many).sort("method", "choices", "quality")
    for (ranker,), rows in ordered.group_by("ranker", maintain_order=True):
        series[str(ranker)] = rows["quality"].to_numpy(), rows["gain"].to_numpy()
        spread[str(ranker)] = rows["deviation"].fill_null(0.0).to_numpy()
    figure = line_chart(
        series,
        xlabel="rank correlation of the reward model and the true reward, random lists",
        ylabel=f"{against} minus evaluator",
        size=(6.4, 3.6),
        spread=spread,
        joined=False,
    )
    axes = figure.axes[0]
    axes.axhline(0.0, color="0.3", linewidth=1.0)
    legend_outside(figure, columns=4)
    return save_figure(figure, path)
