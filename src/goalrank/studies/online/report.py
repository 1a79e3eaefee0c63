"""Report of a simulated online test: lifts in the form of the paper's table, and regret per day."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goalrank.errors import DataError
from goalrank.reporting import line_chart, save_figure
from goalrank.storage import json_text, write_text
from goalrank.studies.online.lifts import (
    Estimate,
    Floats,
    Lift,
    UserSums,
    compare,
    over_seeds,
    size_p_value,
)
from goalrank.studies.online.tables import online_tables
from goalrank.studies.online.traffic import user_sums

TRUE = "true reward"
_DAILY = {
    "true_reward": "true reward of served lists",
    "regret": "regret of served lists",
    "regret_best": "regret of best lists (without exploration)",
}


@dataclass(frozen=True)
class _Test:
    """Settings of a test that its report needs, from config.json."""

    folder: Path
    arms: dict[str, str]  # name → label
    weights: dict[str, float]  # of the users
    policies: dict[str, str]
    control: str
    seeds: list[int]
    days: int
    confidence: float
    kinds: dict[str, float]
    content: dict[str, Any]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics: each feedback type, the reward, the true reward."""
        return [*self.kinds, "reward", TRUE]


def report_online(folder: str | Path) -> dict[str, Any]:
    """Write online.json, table.md and the figures of a finished test.

    Args:
        folder: of the test.

    Returns:
        The content of online.json.

    Raises:
        DataError: a day is missing, or arms too small to compare.
    """
    test = _read(Path(folder))
    lifts: dict[str, dict[str, list[Lift]]] = {}
    users: dict[str, list[int]] = {arm: [] for arm in test.arms}
    daily = []
    for seed in test.seeds:
        frame = _ledger(test, seed)
        daily.append(_by_day(frame).with_columns(pl.lit(seed).alias("seed")))
        sums = user_sums(frame, test.kinds)
        for arm in test.arms:
            users[arm].append(sums.filter(pl.col("arm") == arm).height)
        for arm, found in _seed_lifts(test, sums, seed).items():
            for metric, lift in found.items():
                lifts.setdefault(arm, {}).setdefault(metric, []).append(lift)
    days = pl.concat(daily)
    result = {
        "name": test.content["name"],
        "control": test.control,
        "confidence": test.confidence,
        "days": test.days,
        "seeds": test.seeds,
        "arms": {
            arm: _arm(test, arm, days, users[arm], lifts.get(arm, {})) for arm in test.arms
        },
        "size_p_value": [
            size_p_value([users[arm][i] for arm in test.arms], list(test.weights.values()))
            for i in range(len(test.seeds))
        ],
        "daily": days.sort("seed", "arm", "day").to_dicts(),
    }  # fmt: skip
    write_text(test.folder / "table.md", online_tables(result, test.metrics))
    _draw(test, days)
    write_text(test.folder / "online.json", json_text(result, indent=1) + "\n")
    return result


def _read(folder: Path) -> _Test:
    try:
        content = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"'{folder}' holds no online test ({error}); remedy: goalrank world online CONFIG "
            f"--out {folder}"
        ) from error
    arms = content["arms"]
    return _Test(
        folder=folder,
        arms={arm["name"]: arm["label"] or arm["name"] for arm in arms},
        weights={arm["name"]: arm["weight"] for arm in arms},
        policies={arm["name"]: arm["policy"] for arm in arms},
        control=content["control"],
        seeds=content["seeds"],
        days=content["days"],
        confidence=content["confidence"],
        kinds={kind["name"]: kind["weight"] for kind in content["world"]["kinds"]},
        content=content,
    )


def _ledger(test: _Test, seed: int) -> pl.DataFrame:
    """Read all served requests of a seed."""
    place = test.folder / "ledger" / f"seed-{seed}"
    files = [
        place / f"day-{day:02d}" / f"{arm}.parquet" for day in range(test.days) for arm in test.arms
    ]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise DataError(
            f"'{missing[0]}' is missing: the test is not over; remedy: run the same command again"
        )
    return pl.concat([pl.read_parquet(file, glob=False) for file in files])


def _by_day(frame: pl.DataFrame) -> pl.DataFrame:
    """Average per arm and day: number of requests, true rewards and regret."""
    groups = frame.group_by("arm", "day", maintain_order=True)  # the same sums every time
    return groups.agg(
        pl.len().alias("requests"),
        pl.col("true_reward").mean(),
        pl.col("optimum").mean(),
        (pl.col("optimum") - pl.col("true_reward")).mean().alias("regret"),
        (pl.col("optimum") - pl.col("best_reward")).mean().alias("regret_best"),
        pl.col("is_best").mean().alias("share_best"),
    )


def _seed_lifts(test: _Test, sums: pl.DataFrame, seed: int) -> dict[str, dict[str, Lift]]:
    """Compute the lifts of one seed: arm → metric → lift over control."""
    before = pl.read_parquet(test.folder / "ledger" / f"seed-{seed}" / "before.parquet", glob=False)
    names = {name: f"{name}_before" for name in (*test.kinds, "reward", "requests")}
    joined = sums.join(before.rename(names), on="user_id", how="left").with_columns(
        pl.col(list(names.values())).fill_null(0.0)
    )
    parts = {arm: joined.filter(pl.col("arm") == arm) for arm in test.arms}
    return {
        arm: {
            metric: compare(
                _sums(parts[test.control], metric), _sums(part, metric), test.confidence
            )
            for metric in test.metrics
        }
        for arm, part in parts.items()
        if arm != test.control
    }


def _sums(part: pl.DataFrame, metric: str) -> UserSums:
    # The common log has no true rewards: its reward by feedback is the covariate instead.
    now, then = ("true_reward", "reward") if metric == TRUE else (metric, metric)

    def values(name: str) -> Floats:
        return part[name].to_numpy().astype(np.float64)

    return UserSums(
        values(now), values("requests"), values(f"{then}_before"), values("requests_before")
    )


def _arm(
    test: _Test, arm: str, days: pl.DataFrame, users: list[int], lifts: Mapping[str, list[Lift]]
) -> dict[str, Any]:
    own = days.filter(pl.col("arm") == arm)
    out: dict[str, Any] = {
        "label": test.arms[arm],
        "policy": test.policies[arm],
        "users": users,
        "requests": int(own["requests"].sum()),
    }
    for name in ("true_reward", "optimum", "regret", "regret_best", "share_best"):
        out[name] = _mean(own, name)
    for name, day in (("regret_first_day", 0), ("regret_last_day", test.days - 1)):
        out[name] = _mean(own.filter(pl.col("day") == day), "regret")
    out["lifts"] = {metric: _summary(found, test.confidence) for metric, found in lifts.items()}
    return out


def _mean(days: pl.DataFrame, name: str) -> float:
    """Average over the requests of these days."""
    return float(np.average(days[name].to_numpy(), weights=days["requests"].to_numpy()))


def _summary(lifts: list[Lift], confidence: float) -> dict[str, Any]:
    """Summarise the lift of one metric: over all seeds, and per seed."""
    out: dict[str, Any] = {"cuped": all(lift.cuped for lift in lifts)}
    for name in ("relative", "absolute"):
        each: list[Estimate] = [getattr(lift, name) for lift in lifts]
        out[name] = asdict(over_seeds(each, confidence))
        out[f"{name}_by_seed"] = [asdict(estimate) for estimate in each]
        spread = np.std([e.value for e in each], ddof=1) if len(each) > 1 else None
        out[f"{name}_deviation"] = None if spread is None else float(spread)
    out["control"] = sum(lift.control for lift in lifts) / len(lifts)
    out["arm"] = sum(lift.arm for lift in lifts) / len(lifts)
    return out


def _draw(test: _Test, days: pl.DataFrame) -> None:
    """Draw one figure per daily measure with one line per arm: means over seeds."""
    mean = days.group_by("arm", "day", maintain_order=True).agg(pl.col(*_DAILY).mean()).sort("day")
    for name, label in _DAILY.items():
        lines = {}
        for arm, title in test.arms.items():
            part = mean.filter(pl.col("arm") == arm)
            lines[title] = (part["day"].to_numpy() + 1, part[name].to_numpy())
        figure = line_chart(lines, xlabel="day", ylabel=label, markers=True, size=(7.6, 4.2))
        figure.axes[0].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for ending in ("svg", "png"):
            save_figure(figure, test.folder / f"{name}.{ending}")
