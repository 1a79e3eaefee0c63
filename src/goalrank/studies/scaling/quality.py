"""How right a reward model must be for one generator to beat an evaluator with many lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from numpy.typing import ArrayLike

from goalrank.errors import ConfigError, DataError
from goalrank.evaluation import t_tail
from goalrank.reporting import Table, legend_outside, line_chart, make_columns, save_figure
from goalrank.studies.scaling.table import (
    cells_of_row,
    gain_text,
    mean_with_spread,
    world_cells,
)
from goalrank.wording import counted

_QUALITY = "correlation_random"
_MANY = 20  # lists; fewer help nobody who pays for an evaluator
_DIGITS = 2  # of qualities that are told apart: those of seeds of one reward model are not
_LEVEL = 0.05  # of the test whether a lead is told apart from 0
# Cells of one world and one set of requests have one near-optimum, to rounding.
_PAIR = ("size", "data", "seed", "world", "teacher")
_ROW = ("suite", "ranker", "size", "data", "group", "world")


@dataclass(frozen=True)
class BreakEven:
    """Where the sign of a mean gain changes, among the qualities that were measured.

    Qualities are rounded to two digits; those of one world, size and number of requests that are
    then equal are of one reward model, and its best evaluator is what the row is compared with.

    Attributes:
        lost: highest quality at which an evaluator's mean is level with or above the row's; None =
            at none.
        won: lowest quality above `lost`; from here on the row's mean stands above every
            evaluator's. None = `lost` is the highest quality at which both were measured.
        exceptions: number of reward models of a quality up to `lost` at which the row stands above
            every evaluator.
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
    pair have one size, number of requests, seed, world and teacher; an evaluator without such a
    partner has no gain and 0 seeds. Quality and gain are means over the same seeds.

    Args:
        folders: that `run_scaling` wrote, of one or several worlds.
        against: label of the row, which answers without an evaluator.

    Returns:
        Suite, ranker, size, data, group, near-optimum (world), paired seeds, quality (null where
        the reward model was not measured), method, choices (lists that the evaluator chooses from),
        gain (true reward of the row minus the evaluator's, mean over seeds) and its deviation;
        worst quality first.

    Raises:
        ConfigError: no row has that label, it has several groups or suites, or it is an evaluator.
        DataError: no finished cell on a world, a damaged one, one seed of a row twice, or no
            evaluator with a measured reward model beside the row.
    """
    frame = world_cells(folders)
    places = [str(folder) for folder in folders]
    if not {"method", "choices", _QUALITY} <= set(frame.columns):
        raise DataError(
            f"no evaluator that chooses among lists in {places}; remedy: a suite with rows such as "
            "best_of_100 or mg_e_20"
        )
    teacher = pl.col("teacher") if "teacher" in frame.columns else pl.lit(None, pl.String)
    frame = frame.with_columns(
        pl.col("best").round(6).alias("world"), teacher.fill_null("learned").alias("teacher")
    )
    rows = _reference(frame, against)
    measured = pl.col(_QUALITY).is_not_null()
    chosen = frame.filter(pl.col("choices") > 1)
    chosen = chosen.filter(measured | ~measured.any().over(_ROW))
    paired = chosen.join(rows, on=_PAIR, how="left")
    if paired.filter(measured)["reference"].is_null().all():
        raise DataError(
            f"no evaluator with a measured reward model has the size, number of requests, seed, "
            f"world and teacher of a row '{against}' in {places}; remedy: add the folder of that row"
        )
    has = pl.col("reference").is_not_null()
    paired = paired.filter(has | ~has.any().over(_ROW))
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
        .sort("quality", *_ROW, nulls_last=True)
    )


def _reference(frame: pl.DataFrame, against: str) -> pl.DataFrame:
    """The row's true reward (`reference`) for each pair."""
    rows = cells_of_row(frame, against)
    if (most := max(rows["choices"].fill_null(1).to_list())) > 1:
        raise ConfigError(
            f"row '{against}' chooses among {most:,} lists by a reward model, so it "
            f"is an evaluator itself; remedy: a row that answers without one (option: --against)"
        )
    if rows.select(_PAIR).is_duplicated().any():
        groups = ", ".join(str(group) for group in rows["group"].unique().sort())
        suites = ", ".join(rows["suite"].unique().sort())
        raise ConfigError(
            f"row '{against}' has several groups or suites for one size, number of requests and "
            f"seed, so there is no one row to compare with: groups of {groups} lists, suites "
            f"{suites}; remedy: folders of one suite with one group size (option: --against)"
        )
    return rows.select(*_PAIR, pl.col("true_reward").alias("reference"))


def break_even(table: pl.DataFrame) -> BreakEven:
    """Find where the row begins to stand above the best evaluator of each reward model.

    Args:
        table: of `evaluators_by_quality`; evaluators without a partner or a measured reward model
            say nothing.
    """
    compared = _compared(table)
    models = compared.group_by("world", "size", "data", "quality").agg(pl.col("gain").min())
    lost = models.filter(pl.col("gain") <= 0)["quality"].to_list()
    won = models.filter(pl.col("gain") > 0)["quality"].to_list()
    last = max(lost, default=None)
    above = [quality for quality in won if last is None or quality > last]
    return BreakEven(last, min(above, default=None), len(won) - len(above))


def _compared(table: pl.DataFrame) -> pl.DataFrame:
    """The rows that can be compared, their qualities rounded."""
    return table.drop_nulls(["gain", "quality"]).with_columns(pl.col("quality").round(_DIGITS))


def quality_markdown(table: pl.DataFrame, *, against: str = "goalrank") -> str:
    """`evaluators_by_quality` for people, with the break-even in a sentence.

    Args:
        table: of `evaluators_by_quality`.
        against: its row.
    """
    intro = (
        "quality: rank correlation of the reward model's values and the true rewards of random lists; "
        f"gain: {against}'s true reward minus the row's, mean over paired seeds ± deviation; "
        f"–: no {against} of that size, number of requests, seed, world and teacher, or a reward "
        "model that was not measured"
    )
    head = ("quality", "row", "lists chosen from", "suite", "size", "requests", "seeds", "gain")
    body = []
    for row in table.iter_rows(named=True):
        gain = mean_with_spread(row["gain"], row["deviation"], gain_text)
        quality = "–" if row["quality"] is None else f"{row['quality']:.3f}"
        name = f"{row['ranker']}, groups of {row['group']}" if row["group"] else row["ranker"]
        body.append(
            [quality, name, f"{row['choices']:,}", row["suite"],
             str(row["size"]), f"{row['data']:,}", str(row["seeds"]), gain]
        )  # fmt: skip
    shown = Table(make_columns(*head), body)
    return f"{_said(table, against)}\n\n{intro}\n\n{shown.markdown()}\n"


def _said(table: pl.DataFrame, against: str) -> str:
    """Say the break-even, and how sure the least lead beyond it is."""
    edge = break_even(table)
    if edge.won is None:
        said = (
            f"an evaluator is level with or above {against} up to the highest quality at which both "
            f"were measured, {edge.lost:.2f}"
        )
    elif edge.lost is None:
        said = f"{against} stands above every evaluator at every quality measured, from {edge.won:.2f} on"
    else:
        said = (
            f"{against} stands above every evaluator from a quality of {edge.won:.2f} on; at "
            f"{edge.lost:.2f} one is level with or above it"
        )
    if edge.exceptions:
        said += f" (up to there it is above all with {counted(edge.exceptions, 'reward model')})"
    said = f"By means over seeds, {said}."
    if edge.won is None:
        return said
    least = (
        _compared(table)
        .filter(pl.col("quality") >= edge.won)
        .sort("gain", "quality")
        .row(0, named=True)
    )
    return (
        f"{said} The least of these leads is over {least['ranker']} at {least['quality']:.2f}: "
        f"{mean_with_spread(least['gain'], least['deviation'], gain_text)}, {_sureness(least)}."
    )


def _sureness(row: Mapping[str, Any]) -> str:
    """Say how many seeds a gain has, and whether a paired t test tells it from 0."""
    seeds = counted(row["seeds"], "seed")
    if row["seeds"] < 2:
        return f"{seeds}, which says nothing of chance"
    p = t_tail(row["gain"], row["deviation"] / row["seeds"] ** 0.5, row["seeds"] - 1)
    told = "told apart" if p < _LEVEL else "not told apart"
    return f"{seeds}, {told} from 0 (paired t test over seeds, p {p:.2g})"


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
    known = table.drop_nulls(["gain", "quality"])
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
