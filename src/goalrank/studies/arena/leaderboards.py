"""From the ledger to leaderboards: one per data set and size, its rows compared with the main row."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError, DataError
from goalrank.evaluation import FloatArray, holm, over_seeds_and_users
from goalrank.settings import did_you_mean
from goalrank.studies.arena.ledger import Ledger, Values
from goalrank.studies.arena.runner import stored_plan, stored_suite
from goalrank.studies.common import Suite

_BASELINES_SHOWN = 5
LEVEL = 0.003  # of a metric in [0, 1]: rows that differ by less than this are level


@dataclass(frozen=True)
class LeaderboardRow:
    """A row of a leaderboard.

    Attributes:
        seeds: seeds that finished.
        means: metric → mean over seeds; `deviations`: sample deviation over seeds, NaN for one.
        per_seed: the leaderboard's metric, seed by seed.
        difference: main less this row, with `low` and `high` of its 95 % interval over seeds and
            users; over users alone where `compared` is 1.
        compared: seeds that both rows have; with one, the interval speaks of two trained models and
            not of the methods, so there is no p.
        seed_error, user_error: parts of the difference's standard error.
        p: Holm-adjusted over the leaderboard's rows; NaN where there is no test.
        facts: parameters, seconds, peak memory and so on, means over seeds.
        as_begun: seeds that kept the linear start, since training was not better on validation, of
            `as_begun_of` whose cells say so; those of earlier versions do not.
        untuned: seeds of which no tuning trial could be measured, so that the recipe's settings stand.
        on_validation: the leaderboard's metric on the validation requests, which may choose; NaN
            where it is not the suite's or was not measured.
    """

    label: str
    kind: str
    baseline: bool
    seeds: tuple[int, ...]
    means: dict[str, float]
    deviations: dict[str, float]
    per_seed: tuple[float, ...]
    facts: dict[str, float]
    as_begun: int = 0
    as_begun_of: int = 0
    untuned: int = 0
    on_validation: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    compared: int = 0
    seed_error: float = math.nan
    user_error: float = math.nan
    p: float = math.nan

    @property
    def level(self) -> bool:
        """Whether the whole interval lies within ± `LEVEL`, so that the rows are called level."""
        return self.compared > 1 and max(-self.low, self.high) <= LEVEL


@dataclass(frozen=True)
class Leaderboard:
    """All rows of a data set at a size, best first.

    Attributes:
        rival: label of the best row that learns and is not of the main row's kind.
        failed: (label, seed, reason) of cells that came to nothing.
        missing: cells not run yet.
        hidden_baselines: weaker baselines that are left out.
        mixed: says which cells stand on different tables of requests, so that no row is compared;
            None where all stand on the same.
    """

    suite: str
    dataset: str
    size: str
    metric: str
    main: str
    rows: tuple[LeaderboardRow, ...]
    facts: dict[str, Any]
    rival: str | None = None
    failed: tuple[tuple[str, int, str], ...] = ()
    missing: int = 0
    hidden_baselines: int = 0
    warnings: tuple[str, ...] = field(default_factory=tuple)
    mixed: str | None = None

    @property
    def has_validation(self) -> bool:
        """Whether a row's metric on the validation requests is known."""
        return not all(math.isnan(row.on_validation) for row in self.rows)

    def row(self, label: str) -> LeaderboardRow | None:
        """A row by its label."""
        return next((row for row in self.rows if row.label == label), None)


def load_leaderboards(folder: str | Path, metric: str | None = None) -> list[Leaderboard]:
    """Load every leaderboard of a benchmark.

    Args:
        folder: of `run_suite`.
        metric: with or without "@L"; None takes that of the suite.

    Raises:
        DataError: no cell is finished, or a newer version wrote the folder.
        ConfigError: a metric that was not measured.
    """
    suite = stored_suite(folder)
    cells = stored_plan(folder)
    ledger = Ledger(folder)
    table = ledger.read(cell.key for cell in cells)
    name = _metric(metric or suite.metric, suite, table)
    leaderboards = []
    for dataset in suite.datasets:
        for size in suite.sizes:
            here = [c for c in cells if (c.dataset.name, c.size.name) == (dataset.name, size.name)]
            baselines = [
                c.key for c in cells if c.dataset.name == dataset.name and c.row.name == "baselines"
            ]
            keys = {c.key for c in here} | set(baselines)
            found = table.filter(pl.col("key").is_in(list(keys)))
            if found.height:
                missing = sum(not ledger.has(c) for c in here)
                leaderboards.append(
                    _leaderboard(suite, ledger, found, (dataset.name, size.name), name, missing)
                )
    return leaderboards


def _metric(metric: str, suite: Suite, table: pl.DataFrame) -> str:
    known = [c for c in table.columns if "@" in c or c == "auc"]
    for name in (metric, f"{metric}@{suite.slots}"):
        if name in known:
            return name
    if not known:
        reasons = table["reason"].drop_nulls().unique(maintain_order=True).to_list()
        raise DataError("every cell failed:\n" + "\n".join(f"  {r}" for r in reasons[:10]))
    near = did_you_mean(metric, [*known, *suite.metrics])
    raise ConfigError(
        f"metric '{metric}' was not measured{near}; there are {known} (option: --metric)"
    )


def _leaderboard(
    suite: Suite,
    ledger: Ledger,
    cells: pl.DataFrame,
    place: tuple[str, str],
    metric: str,
    missing: int,
) -> Leaderboard:
    good = cells.filter(pl.col("status") == "ok")
    bad = cells.filter(pl.col("status") != "ok").sort("ranker", "seed")
    rows, samples, hidden = _rows(good, metric)
    if metric.partition("@")[0] != suite.metric.partition("@")[0]:
        rows = [replace(row, on_validation=math.nan) for row in rows]
    mixed = _different_tables(good)
    main = next((row for row in rows if row.label == suite.main), None)
    if mixed is None and main is not None and metric in main.means:
        rows = _compared(ledger, rows, samples, suite.main, metric)
    return Leaderboard(
        suite=suite.name,
        dataset=place[0],
        size=place[1],
        metric=metric,
        main=suite.main,
        rows=tuple(rows),
        facts=_leaderboard_facts(good),
        rival=_best_rival(rows, suite.main),
        failed=tuple(
            (str(r["ranker"]), int(r["seed"]), str(r["reason"])) for r in bad.iter_rows(named=True)
        ),
        missing=missing,
        hidden_baselines=hidden,
        warnings=_warnings(good, mixed),
        mixed=mixed,
    )


def _warnings(good: pl.DataFrame, mixed: str | None) -> tuple[str, ...]:
    """What the imports warn of, and whether cells stand on different tables."""
    told = good["warning"].drop_nulls().unique().sort().to_list() if good.height else []
    return (*told, *([] if mixed is None else [mixed]))


def _different_tables(good: pl.DataFrame) -> str | None:
    """Say which cells stand on different tables of requests; None where all stand on the same."""
    if "tables" not in good.columns:  # of ledgers before version 0.2.0
        return None
    label = pl.when("baseline").then("kind").otherwise("ranker").alias("label")
    known = good.filter(pl.col("tables").is_not_null()).select("tables", label, "seed").unique()
    parts = [
        ", ".join(
            f"{name} (seed {', '.join(map(str, cells['seed']))})"
            for (name,), cells in group.group_by(["label"], maintain_order=True)
        )
        for _, group in known.sort("label", "seed").group_by(["tables"], maintain_order=True)
    ]
    if len(parts) < 2:
        return None
    return (
        f"cells stand on different tables of requests, as where the tables were replaced or another "
        f"version imported them, so their numbers do not compare and nothing is tested ({'; '.join(parts)}); "
        f"remedy: run the suite in a new folder"
    )


def _rows(
    good: pl.DataFrame, metric: str
) -> tuple[list[LeaderboardRow], dict[str, pl.DataFrame], int]:
    """Rows best first, where their values are, and how many weaker baselines were left out."""
    rows, samples = [], {}
    for (label,), group in good.group_by(["ranker"], maintain_order=True):
        part = group.sort("seed")
        rows.append(_row(str(label), part, metric))
        samples[str(label)] = part.select("key", "column", "seed")
    rows.sort(key=lambda row: -np.nan_to_num(row.means.get(metric, math.nan), nan=-np.inf))
    weaker = [row.label for row in rows if row.baseline][_BASELINES_SHOWN:]
    return [row for row in rows if row.label not in weaker], samples, len(weaker)


def _best_rival(rows: Sequence[LeaderboardRow], main: str) -> str | None:
    """The first row that learns and is no variant of the main one."""
    kind = next((row.kind for row in rows if row.label == main), None)
    rivals = (
        row.label for row in rows if not row.baseline and row.label != main and row.kind != kind
    )
    return next(rivals, None)


def _leaderboard_facts(good: pl.DataFrame) -> dict[str, Any]:
    if good.height == 0:
        return {}
    first = good.row(0, named=True)
    names = (
        "log", "protocol", "slots", "requests_train", "requests_validation", "requests_test",
        "test_scored", "test_excluded",
    )  # fmt: skip
    facts = {name: first[name] for name in names}
    trained = good.filter(~pl.col("baseline"))
    facts["trials"] = trained["trials"].max() if trained.height else 0
    facts["devices"] = ", ".join(sorted(set(good["device"])))
    commits = good["commit"].drop_nulls().str.slice(0, 10).unique().sort().to_list()
    facts["commits"] = ", ".join(commits) or "unknown"
    return facts


def _row(label: str, part: pl.DataFrame, metric: str) -> LeaderboardRow:
    metrics = [c for c in part.columns if ("@" in c or c == "auc") and part[c].null_count() == 0]
    seeds = part.height
    numbers = (
        "parameters", "parameters_beside_ids", "seconds", "training_seconds", "peak_memory_mb",
        "ms_per_request", "width", "steps",
    )  # fmt: skip
    kept = part["kept"].drop_nulls().to_list() if "kept" in part.columns else []
    return LeaderboardRow(
        label=label,
        kind=str(part["kind"][0]),
        baseline=bool(part["baseline"][0]),
        seeds=tuple(int(s) for s in part["seed"]),
        means={m: float(part[m].to_numpy().mean()) for m in metrics},
        deviations={
            m: float(part[m].to_numpy().std(ddof=1)) if seeds > 1 else math.nan for m in metrics
        },
        per_seed=tuple(float(v) for v in part[metric]) if metric in metrics else (),
        facts={n: float(part[n].cast(pl.Float64).to_numpy().mean()) for n in numbers},
        as_begun=kept.count("start"),
        as_begun_of=len(kept),
        untuned=sum(map(_untuned, part["tuning"])),
        on_validation=_on_validation(part),
    )


def _on_validation(part: pl.DataFrame) -> float:
    if "validation" not in part.columns:  # an older ledger
        return math.nan
    return float(part["validation"].cast(pl.Float64).to_numpy().mean())  # null is NaN


def _untuned(tuning: str) -> bool:
    trials = json.loads(tuning)["trials"]
    return bool(trials) and all(trial["score"] is None for trial in trials)


def _compared(
    ledger: Ledger,
    rows: Sequence[LeaderboardRow],
    samples: dict[str, pl.DataFrame],
    main: str,
    metric: str,
) -> list[LeaderboardRow]:
    """Each row compared with the main one, p values corrected over all of them."""
    loaded: dict[str, Values] = {}
    own = _sample(ledger, samples[main], metric, loaded)
    users = next(iter(loaded.values())).users
    out = []
    for row in rows:
        if row.label != main and metric in row.means:
            other = _sample(ledger, samples[row.label], metric, loaded)
            out.append(_beside(row, own, other, users))
        else:
            out.append(row)
    adjusted = holm([row.p for row in out])
    return [replace(row, p=p) for row, p in zip(out, adjusted, strict=True)]


def _beside(
    row: LeaderboardRow,
    own: dict[int, FloatArray],
    other: dict[int, FloatArray],
    users: NDArray[np.int64],
) -> LeaderboardRow:
    """A row with its difference from the main one, over the seeds that both have."""
    if row.baseline:  # it has no seeds: each seed of the main row is compared with the same answer
        other = dict.fromkeys(own, next(iter(other.values())))
    shared = sorted(set(own) & set(other))
    if not shared:
        return row
    numbers = sorted({len(each[seed]) for each in (own, other) for seed in shared})
    if len(numbers) > 1:
        raise DataError(
            f"cells of '{row.label}' and the main row were measured on {numbers} requests; remedy: "
            f"run the suite again in another folder"
        )
    a, b = (np.stack([each[seed] for seed in shared]) for each in (own, other))
    found = over_seeds_and_users(a, b, users)
    return replace(
        row, difference=found.mean, low=found.low, high=found.high, compared=found.seeds,
        seed_error=found.seed_error, user_error=found.user_error,
        p=found.p if found.seeds > 1 else math.nan,
    )  # fmt: skip


def _sample(
    ledger: Ledger, part: pl.DataFrame, metric: str, loaded: dict[str, Values]
) -> dict[int, FloatArray]:
    """Seed → [n] of the metric."""
    out = {}
    for key, column, seed in part.iter_rows():
        if key not in loaded:
            loaded[key] = ledger.values(key)
        out[int(seed)] = loaded[key].columns[column][metric]
    return out
