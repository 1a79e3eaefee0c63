"""Comparison of a row with the rows of a published folder, such as those of `results/`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.evaluation import (
    FloatArray,
    holm,
    over_seeds_and_users,
    satterthwaite,
    t_quantile,
    t_tail,
)
from goalrank.studies.arena.ledger import Ledger, read_published

PAIRED = "request by request, over seeds and users"
ONE_SEED = "request by request, over users alone: one seed, so nothing is tested"
SEEDS_ALONE = "means of seeds (Welch's t): on these test requests, not for other users"
MEANS_ALONE = "means alone, no test: one seed"
_SAME = ("log", "protocol", "slots", "requests_train", "requests_validation", "requests_test", "test_scored")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One row on one board, seed by seed.

    Attributes:
        metric: with "@L".
        values: seed → [n] metric of the test requests.
        means: seed → its mean, as in the ledger.
        users: [n] who asked.
        rows: [n] rows of the test table.
        facts: of the ledger: log, protocol, numbers of requests, hashes of the tables.
    """

    metric: str
    values: Mapping[int, FloatArray]
    means: Mapping[int, float]
    users: NDArray[np.int64]
    rows: NDArray[np.int64]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """A row less another row.

    Attributes:
        row: label of the other row.
        mean: of the other row, over its seeds.
        seeds: of the other row.
        difference: of the means, with `low` and `high` of its 95 % interval; NaN where there is none.
        p: Holm-adjusted over the rows compared; NaN where nothing is tested.
        how: what is compared and what the interval is over.
    """

    row: str
    mean: float
    seeds: int
    difference: float
    low: float
    high: float
    p: float
    how: str


def compare_with_published(mine: Measured, folder: Path, dataset: str) -> dict[str, Any]:
    """Compare a row with every published row of a board.

    Where the folder has metrics per request (`values/`) of the same tables, rows are compared request
    by request; elsewhere by the means of their seeds.

    Args:
        mine: the row.
        folder: that `goalrank benchmark publish` wrote.
        dataset: name of the data set.

    Returns:
        {"folder", "split": how it is known that the board is the same, "rows": comparisons}; no rows
        where the board is another one.

    Raises:
        DataError: the folder holds no ledger that can be read, or values of another run.
    """
    table = read_published(folder)
    if "dataset" in table.columns and mine.metric in table.columns:
        here = (pl.col("dataset") == dataset) & (pl.col("status") == "ok")
        if "size" in table.columns:
            here &= (pl.col("size") == mine.facts["size"]) | pl.col("baseline")
        table = table.filter(here & pl.col(mine.metric).is_not_null())
    else:
        table = table.clear()
    split, proven = _split(mine, table, dataset)
    found = [] if split.startswith("another") else _rows(mine, folder, table, proven)
    adjusted = holm([row.p for row in found])
    rows = [asdict(replace(row, p=p)) for row, p in zip(found, adjusted, strict=True)]
    return {"folder": folder.name, "split": split, "rows": rows}


def _rows(mine: Measured, folder: Path, table: pl.DataFrame, proven: bool) -> list[Comparison]:
    groups = table.sort("seed").group_by(["ranker"], maintain_order=True)
    found = [_against(mine, folder, str(label), part, proven) for (label,), part in groups]
    return sorted(found, key=lambda row: -row.mean)


def _split(mine: Measured, table: pl.DataFrame, dataset: str) -> tuple[str, bool]:
    """Whether a published board is the same, in words, and whether hashes prove it."""
    if not table.height:
        return f"another board: no row of data set '{dataset}' with {mine.metric}", False
    names = [name for name in (*_SAME, "tables") if name in table.columns]
    found = [_same(mine, row) for row in table.select(names).unique().iter_rows(named=True)]
    others = [said for said, _ in found if said.startswith("another")]
    if others:
        return others[0], False
    return next((each for each in found if not each[1]), found[0])


def _same(mine: Measured, other: Mapping[str, Any]) -> tuple[str, bool]:
    """As `_split`, of one row."""
    unequal = [
        f"{name} {other.get(name)} there, {mine.facts.get(name)} here"
        for name in _SAME
        if other.get(name) != mine.facts.get(name)
    ]
    if unequal:
        return f"another board: {'; '.join(unequal)}", False
    try:
        theirs = json.loads(other.get("tables") or "{}")
    except ValueError:
        return "another board: the published hashes of its tables cannot be read", False
    if not theirs:
        return "same numbers of requests; the published ledger holds no hashes of its tables", False
    if theirs != json.loads(mine.facts["tables"]):
        return "another board: the hashes of the tables differ", False
    return "the same tables, by their hashes", True


def _against(
    mine: Measured, folder: Path, label: str, part: pl.DataFrame, proven: bool
) -> Comparison:
    theirs = part[mine.metric].to_numpy()
    baseline = bool(part["baseline"][0])
    own = np.array(list(mine.means.values()))
    base = Comparison(
        label, float(theirs.mean()), len(theirs), float(own.mean() - theirs.mean()),
        math.nan, math.nan, math.nan, MEANS_ALONE,
    )  # fmt: skip
    pairs = _pairs(mine, folder, part, baseline) if proven else None
    if pairs is not None:
        found = over_seeds_and_users(*pairs, mine.users)
        p, how = (found.p, PAIRED) if found.seeds > 1 else (math.nan, ONE_SEED)
        return replace(base, difference=found.mean, low=found.low, high=found.high, p=p, how=how)
    if len(own) < 2 or (len(theirs) < 2 and not baseline):
        return base
    low, high, p = _welch(own, theirs, baseline)
    return replace(base, low=low, high=high, p=p, how=SEEDS_ALONE)


def _pairs(
    mine: Measured, folder: Path, part: pl.DataFrame, baseline: bool
) -> tuple[FloatArray, FloatArray] | None:
    """Values [S, n] of both rows, as many seeds as both have; None without metrics per request."""
    ledger = Ledger(folder)
    if not all(ledger.has_values(key) for key in part["key"]):
        return None
    other = []
    for key, column, mean in part.select("key", "column", mine.metric).iter_rows():
        values = ledger.measured(key, column, mine.metric, mean)
        if not np.array_equal(values.rows, mine.rows):
            return None
        other.append(values.columns[column][mine.metric])
    own = list(mine.values.values())
    other = other[:1] * len(own) if baseline else other
    seeds = min(len(own), len(other))
    return np.stack(own[:seeds]), np.stack(other[:seeds])


def _welch(own: FloatArray, theirs: FloatArray, fixed: bool) -> tuple[float, float, float]:
    """Interval and p of a difference of means; a fixed row has one value without error."""
    sides = [own] if fixed else [own, theirs]
    variances = np.array([float(each.var(ddof=1)) / len(each) for each in sides])
    degrees = satterthwaite(variances, np.array([len(each) - 1 for each in sides]))
    mean, error = float(own.mean() - theirs.mean()), math.sqrt(variances.sum())
    reach = float(t_quantile(0.975, degrees)) * error
    return mean - reach, mean + reach, t_tail(mean, error, degrees)
