"""Rows of scaling grids side by side: true reward, and how much of what there is to win."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from goalrank.benchmark.scaling_run import read_cells
from goalrank.errors import DataError
from goalrank.reports import Bar, bar_chart, save_figure

_ROW = ("suite", "ranker", "size", "data", "group")
_MEANS = ("true_reward", "regret", "policy_error", "reward_error",
          "correlation_random", "correlation_proposed")  # fmt: skip


def scaling_table(folders: Sequence[str | Path]) -> pl.DataFrame:
    """One line a row of the grids, best first; cells on a world only.

    What there is to win is the gap from the best scorer (a row that scores items and sorts them,
    without an evaluator) of that data size to the near-optimum, seed by seed.

    Args:
        folders: that `run_scaling` wrote, of worlds that ask for the same lists.

    Returns:
        Suite, ranker, size, data, group, seeds; means over seeds of true reward (with its
        standard deviation), regret, its two parts and the reward model's rank correlations where
        they were measured; share of the gap that is closed, and its deviation; near-optimum.

    Raises:
        DataError: no finished cell on a world.
    """
    cells = [cell for folder in folders for cell in read_cells(folder)]
    good = [c for c in cells if c["status"] == "ok" and c["source"] == "world"]
    if not good:
        raise DataError(
            f"no finished cell on a world in {[str(folder) for folder in folders]}; remedy: "
            f"goalrank scaling run SUITE --out DIR, with a suite that names a world"
        )
    frame = pl.DataFrame(good, infer_schema_length=None)
    frame = frame.join(_best_scorer(frame), on=("data", "seed"), how="left")
    won = (pl.col("true_reward") - pl.col("floor")) / (pl.col("best") - pl.col("floor"))
    frame = frame.with_columns(won.alias("of_the_gap"))
    known = [name for name in _MEANS if name in frame.columns]
    return (
        frame.group_by(_ROW)
        .agg(
            pl.len().alias("seeds"),
            *[pl.col(name).mean() for name in known],
            pl.col("true_reward").std().alias("deviation"),
            pl.col("of_the_gap").mean(),
            pl.col("of_the_gap").std().alias("gap_deviation"),
            pl.col("best").mean(),
        )
        .sort("data", "true_reward", *_ROW, descending=[False, True, *[False] * len(_ROW)])
    )


def _best_scorer(frame: pl.DataFrame) -> pl.DataFrame:
    """Its true reward (`floor`) for each data size and seed; no lines without a scorer."""
    is_scorer = pl.col("scorer").fill_null(False) if "scorer" in frame.columns else False
    scorers = frame.filter(is_scorer)
    means = scorers.group_by(_ROW).agg(pl.col("true_reward").mean().alias("mean"))
    best = means.sort("mean", *_ROW, descending=True).unique(
        "data", keep="first", maintain_order=True
    )
    chosen = scorers.join(best, on=_ROW, how="semi")
    return chosen.select("data", "seed", pl.col("true_reward").alias("floor"))


def scaling_markdown(table: pl.DataFrame) -> str:
    """`scaling_table` for people."""
    several = _several(table, _ROW[:1] + _ROW[2:])
    parts = [name for name in _MEANS[1:] if name in table.columns]
    head = ["row", *several, "seeds", "true reward", "of the gap", *parts]
    best = float(table["best"].to_numpy().mean())
    lines = [
        f"near-optimum {best:.4f}; means over seeds ± standard deviation; of the gap: from "
        "the best scorer to the near-optimum",
        "",
        f"| {' | '.join(name.replace('_', ' ') for name in head)} |",
        "|---" * len(head) + "|",
    ]
    for row in table.iter_rows(named=True):
        cells = [row["ranker"]]
        cells += [_count(row[name]) for name in several]
        cells += [str(row["seeds"]), _spread(row["true_reward"], row["deviation"], "{:.4f}")]
        cells.append(_spread(row["of_the_gap"], row["gap_deviation"], "{:.1%}"))
        cells += ["–" if row[name] is None else f"{row[name]:.4f}" for name in parts]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_scaling_table(table: pl.DataFrame, path: str | Path) -> Path:
    """Regret of every row of `scaling_table` as bars, least first, ± one deviation over seeds.

    Args:
        path: a .png or .svg file.

    Raises:
        ConfigError: another kind of file.
    """
    several = _several(table, _ROW[2:])
    bars = []
    for row in table.sort("regret", *_ROW).iter_rows(named=True):
        parts = [f"{key} {_count(row[key])}" for key in several if row[key]]
        name = ", ".join([row["ranker"], *parts])
        spread = math.nan if row["deviation"] is None else row["deviation"]
        low, high = row["regret"] - spread, row["regret"] + spread
        bars.append(Bar(name, row["regret"], low, high, row["suite"]))
    return save_figure(bar_chart(bars, xlabel="regret"), path)


def _several(table: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Columns in which rows differ; group 0 stands for rows that groups do not teach."""
    taught = table.with_columns(pl.col("group").replace(0, None))
    return [name for name in names if taught[name].drop_nulls().n_unique() > 1]


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _spread(mean: float | None, deviation: float | None, form: str) -> str:
    if mean is None:
        return "–"
    said = form.format(mean)
    return said if deviation is None else f"{said} ± {form.format(deviation)}"
