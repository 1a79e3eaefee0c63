"""Rows of scaling grids side by side: true reward, and its share of the possible gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from goalrank.errors import ConfigError, DataError
from goalrank.reporting import (
    Bar,
    Table,
    bar_chart,
    legend_outside,
    line_chart,
    make_columns,
    save_figure,
)
from goalrank.studies.scaling.cells import read_cells, refuse_repeats
from goalrank.wording import signed

_ROW = ("suite", "ranker", "size", "data", "group")
_PAIR = ("size", "data", "seed")
_PLACE = ("size", "data")
_KIND = ("method", "choices")
_MEANS = ("true_reward", "regret", "policy_error", "reward_error",
          "correlation_random", "correlation_proposed")  # fmt: skip
_FAMILIES = {
    "best_of": "best of k draws",
    "mg_e": "MG-E, k generators",
    "mg_e_copies": "MG-E, k copies",
    "clig": "CLIG",
}


def scaling_table(folders: Sequence[str | Path], *, against: str | None = None) -> pl.DataFrame:
    """One line per row of the grids, best first; cells on a world only.

    What there is to win is the gap from the best scorer (a row that scores items and sorts them,
    without an evaluator) of that data size to the near-optimum, seed by seed; for each seed the
    scorer of the highest mean among those that ran on it.

    Args:
        folders: that `run_scaling` wrote, of worlds that ask for the same lists.
        against: a row's label, of the first folder that has it. Every row's gain over it is
            computed on the seeds that both have, which their means need not share.

    Returns:
        Suite, ranker, size, data, group, seeds; what kind of row it is and from how many lists
        an evaluator chooses, where that was counted; means over seeds of true reward (with its
        standard deviation), regret, its two parts and the reward model's rank correlations where
        they were measured; share of the gap that is closed, and its deviation; near-optimum.
        With `against`: gain, mean over seeds of true reward minus that row's of the same size,
        data and seed; its deviation; paired, the number of such seeds.

    Raises:
        ConfigError: no row has that label, or it has several group sizes.
        DataError: no finished cell on a world.
    """
    frame = world_cells(folders)
    frame = frame.join(_best_scorer(frame), on=("data", "seed"), how="left")
    won = (pl.col("true_reward") - pl.col("floor")) / (pl.col("best") - pl.col("floor"))
    frame = frame.with_columns(won.alias("of_the_gap"))
    gains = []
    if against is not None:
        frame = frame.join(_reference(frame, against), on=_PAIR, how="left")
        gain = pl.col("true_reward") - pl.col("reference")
        gains = [
            gain.mean().alias("gain"),
            gain.std().alias("gain_deviation"),
            gain.count().alias("paired"),
        ]
    known = [name for name in _MEANS if name in frame.columns]
    kind = [name for name in _KIND if name in frame.columns]
    return (
        frame.group_by(_ROW)
        .agg(
            pl.len().alias("seeds"),
            *[pl.col(name).drop_nulls().first() for name in kind],
            *[pl.col(name).mean() for name in known],
            pl.col("true_reward").std().alias("deviation"),
            pl.col("of_the_gap").mean(),
            pl.col("of_the_gap").std().alias("gap_deviation"),
            pl.col("best").mean(),
            *gains,
        )
        .sort("data", "true_reward", *_ROW, descending=[False, True, *[False] * len(_ROW)])
    )


def world_cells(folders: Sequence[str | Path]) -> pl.DataFrame:
    """Finished cells on a world, one line each.

    Args:
        folders: that `run_scaling` wrote.

    Raises:
        DataError: there is none, a file is damaged, or one seed of a row would count twice.
    """
    cells = [cell for folder in folders for cell in read_cells(folder)]
    refuse_repeats(cells, ["best"])
    good = [c for c in cells if c["status"] == "ok" and c["source"] == "world"]
    if not good:
        raise DataError(
            f"no finished cell on a world in {[str(folder) for folder in folders]}; remedy: "
            f"goalrank scaling run SUITE --out DIR, with a suite that names a world"
        )
    return pl.DataFrame(good, infer_schema_length=None)


def cells_of_row(frame: pl.DataFrame, label: str) -> pl.DataFrame:
    """Cells of the row to compare with.

    Args:
        frame: of `world_cells`.
        label: of the row.

    Raises:
        ConfigError: there is none.
    """
    rows = frame.filter(pl.col("ranker") == label)
    if rows.is_empty():
        labels = ", ".join(sorted(frame["ranker"].unique()))
        raise ConfigError(
            f"no row '{label}' in these grids; they have {labels} (option: --against)"
        )
    return rows


def _best_scorer(frame: pl.DataFrame) -> pl.DataFrame:
    """Its true reward (`floor`) for each data size and seed; no lines without a scorer."""
    is_scorer = pl.col("scorer").fill_null(False) if "scorer" in frame.columns else False
    scorers = frame.filter(is_scorer)
    mean = pl.col("true_reward").mean().over(_ROW).alias("mean")
    best = scorers.with_columns(mean).sort("mean", *_ROW, descending=True)
    best = best.unique(["data", "seed"], keep="first", maintain_order=True)
    return best.select("data", "seed", pl.col("true_reward").alias("floor"))


def _reference(frame: pl.DataFrame, label: str) -> pl.DataFrame:
    """The row's true reward (`reference`) for each size, data size and seed."""
    rows = cells_of_row(frame, label)
    rows = rows.filter(pl.col("suite") == rows["suite"][0])
    groups = sorted(rows["group"].unique())
    if len(groups) > 1:
        raise ConfigError(
            f"row '{label}' has groups of {groups} lists, so there is no one row to compare with; "
            f"remedy: a grid of one group size (option: --against)"
        )
    return rows.select(*_PAIR, pl.col("true_reward").alias("reference"))


def scaling_markdown(table: pl.DataFrame) -> str:
    """`scaling_table` for people."""
    several = _several(table, _ROW[:1] + _ROW[2:])
    parts = [name for name in _MEANS[1:] if name in table.columns]
    compared = ["gain", "paired"] if "gain" in table.columns else []
    head = ["row", *several, "seeds", "true reward", *compared, "of the gap", *parts]
    best = float(table["best"].to_numpy().mean())
    meant = "; gain: in true reward, on the paired seeds" if compared else ""
    intro = (
        f"near-optimum {best:.4f}; means over seeds ± standard deviation{meant}; of the gap: from "
        "the best scorer to the near-optimum"
    )
    rows = []
    for row in table.iter_rows(named=True):
        cells = [row["ranker"]]
        cells += [_count(row[name]) for name in several]
        cells += [
            str(row["seeds"]),
            mean_with_spread(row["true_reward"], row["deviation"], "{:.4f}".format),
        ]
        if compared:
            cells.append(mean_with_spread(row["gain"], row["gain_deviation"], gain_text))
            cells.append(str(row["paired"]))
        cells.append(mean_with_spread(row["of_the_gap"], row["gap_deviation"], "{:z.1%}".format))
        cells += ["–" if row[name] is None else f"{row[name]:.4f}" for name in parts]
        rows.append(cells)
    shown = Table(make_columns(*(name.replace("_", " ") for name in head)), rows)
    return f"{intro}\n\n{shown.markdown()}\n"


def draw_scaling_table(table: pl.DataFrame, path: str | Path) -> Path:
    """Draw the regret of every row as a bar, best first, ± one standard deviation over seeds.

    A table made with `against` is drawn with the gain over that row instead.

    Args:
        table: of `scaling_table`.
        path: a .png or .svg file.

    Raises:
        ConfigError: another kind of file.
    """
    several = _several(table, _ROW[2:])
    compared = "gain" in table.columns
    value, spread = ("gain", "gain_deviation") if compared else ("regret", "deviation")
    bars = []
    for row in table.sort(value, *_ROW, descending=[compared, *[False] * len(_ROW)]).iter_rows(
        named=True
    ):
        mean = math.nan if row[value] is None else row[value]
        half = math.nan if row[spread] is None else row[spread]
        name = _named(row["ranker"], row, several)
        bars.append(Bar(name, mean, mean - half, mean + half, row["suite"]))
    return save_figure(bar_chart(bars, xlabel="gain in true reward" if compared else value), path)


def draw_by_k(table: pl.DataFrame, path: str | Path, *, level: str | None = None) -> Path:
    """Draw regret over k, the number of lists an evaluator chooses from, one line per kind of row.

    Bands are one standard deviation over seeds up and down.

    Args:
        table: of `scaling_table`.
        path: a .png or .svg file.
        level: label of a row that is drawn as a horizontal line for each size and data size that
            has a line; None draws none.

    Raises:
        ConfigError: another kind of file.
        DataError: no kind of row in the table has two values of k.
    """
    if "choices" not in table.columns:
        table = table.with_columns(method=pl.lit(None, pl.String), choices=pl.lit(None, pl.Int64))
    varied = pl.col("choices").n_unique().over("method", *_PLACE) > 1
    chosen = table.filter(pl.col("choices").is_not_null() & varied)
    if chosen.is_empty():
        raise DataError(
            "no kind of row here chooses from two numbers of lists, so there is nothing over k; "
            "remedy: a suite such as configs/scaling/million-k.toml (option: --by-k)"
        )
    several = _several(chosen, _PLACE)
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {}
    spread: dict[str, ArrayLike] = {}
    names: dict[Any, str] = {}  # of a place's first line
    chosen = chosen.sort("data", "size", "method", "choices")
    for (method, *where), rows in chosen.group_by("method", *_PLACE, maintain_order=True):
        family = _FAMILIES.get(str(method), str(method))
        name = _named(family, dict(zip(_PLACE, where, strict=True)), several)
        names.setdefault(tuple(where), name)
        series[name] = rows["choices"].to_numpy(), rows["regret"].to_numpy()
        spread[name] = rows["deviation"].fill_null(0.0).to_numpy()
    figure = line_chart(
        series,
        xlabel="k, lists that the reward model chooses from",
        ylabel="regret",
        logx=True,
        markers=True,
        spread=spread,
    )
    axes = figure.axes[0]
    colors = {line.get_label(): line.get_color() for line in axes.lines}
    level_rows = table.filter(pl.col("ranker").eq_missing(pl.lit(level)))
    for row in level_rows.iter_rows(named=True):
        place = (row["size"], row["data"])
        if place in names:
            color = colors[names[place]] if several else "0.25"
            mean, half = row["regret"], row["deviation"] or 0.0
            name = _named(row["ranker"], row, several)
            axes.axhline(mean, color=color, linestyle="--", linewidth=1.8, label=name)
            axes.axhspan(mean - half, mean + half, color=color, alpha=0.12, linewidth=0)
    every = sorted({int(k) for ks, _ in series.values() for k in np.asarray(ks)})
    axes.set_ylim(bottom=0)
    axes.set_xticks(every, labels=[_count(k) for k in every])
    axes.minorticks_off()
    legend_outside(figure, columns=2)  # the one inside knows no levels, which leave it no room
    return save_figure(figure, path)


def _named(name: str, row: Mapping[str, Any], several: Sequence[str]) -> str:
    """A name with what sets its row apart, such as "goalrank, data 2,500"."""
    return ", ".join([name, *(f"{key} {_count(row[key])}" for key in several if row[key])])


def _several(table: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Columns in which rows differ; group 0 means rows that are not trained on groups."""
    taught = table.with_columns(pl.col("group").replace(0, None))
    return [name for name in names if taught[name].drop_nulls().n_unique() > 1]


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def gain_text(gain: float) -> str:
    """Write a gain in true reward."""
    return signed(gain, 4)


def mean_with_spread(
    mean: float | None, deviation: float | None, write: Callable[[float], str]
) -> str:
    """Write "mean ± deviation"; "–" without a mean.

    Args:
        mean: over seeds.
        deviation: over seeds; None for one seed.
        write: number → its text; the deviation's has no sign.
    """
    if mean is None:
        return "–"
    said = write(mean)
    return said if deviation is None else f"{said} ± {write(deviation).removeprefix('+')}"
