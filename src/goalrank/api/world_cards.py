"""`world_card`: bundles judged by a world's truth: regret, and which part causes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from goalrank.bundles import Bundle
from goalrank.errors import ConfigError, DataError
from goalrank.evaluation import Interval, Resampler, resample
from goalrank.reporting import Table, make_columns
from goalrank.requests import Requests
from goalrank.wording import counted
from goalrank.worlds import ReferenceRewards, RegretMeter, TrueEvaluation, World, share_exact

Progress = Callable[[int, int], None]
Array = NDArray[np.float64]
_SCORER = "true pointwise sort"


@dataclass(frozen=True)
class WorldRow:
    """One ranker, or one of the world's own baselines; means over requests.

    Attributes:
        reward: mean true reward.
        regret: near-optimum minus reward; below 0 only where the near-optimum was beaten.
        share_of_best: mean reward over the near-optimum's.
        share_exact: share of requests whose list is worth the near-optimum.
        gap_closed: (reward - r) / (best - r), r of the best scorer, the true pointwise sort.
        kind: "trained" or "baseline".
    """

    reward: Interval
    regret: Interval
    share_of_best: float
    share_exact: float
    gap_closed: float
    kind: str


@dataclass(frozen=True)
class RegretParts:
    """Regret of a ranker trained with a reward model, in two parts that sum to it, in true reward.

    Attributes:
        policy_error: best list under the learned reward minus the ranker's list; below 0 where
            the ranker is better than the reward model's best list.
        reward_error: near-optimum minus the best list under the learned reward.
        policy_error_learned: as `policy_error`, in learned reward; never below 0.
        correlation: "random" or "proposed" lists → pearson, spearman, kendall of the learned
            reward with the truth, within requests.
    """

    policy_error: Interval
    reward_error: Interval
    policy_error_learned: Interval
    correlation: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class WorldCard:
    """Regret table.

    Attributes:
        world: name.
        requests: judged.
        slots: L.
        gap: mean certified gap of the near-optimum: the optimum is at most this much better.
        rows: bundles, then the world's own baselines, the near-optimum last.
        parts: of bundles that hold a reward model.
    """

    world: str
    requests: int
    slots: int
    gap: float
    rows: dict[str, WorldRow]
    parts: dict[str, RegretParts]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        tables = [_row_table(self.rows), *([_part_table(self.parts)] if self.parts else [])]
        foot = (
            f"World {self.world}, {counted(self.requests, 'request')}, {counted(self.slots, 'slot')}; certified gap of "
            f"the near-optimum: {self.gap:.3f}."
        )
        return "\n\n".join([*(table.markdown(padded=True) for table in tables), foot])


def world_card(
    bundles: Mapping[str, Bundle],
    requests: Requests,
    world: World,
    *,
    limit: int = 1000,
    bootstrap: int = 1000,
    beam: int = 128,
    reward_beam: int = 8,
    lists: int = 16,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> WorldCard:
    """Judge bundles by the truth of the world that sampled the requests.

    Args:
        bundles: name → bundle; at least one.
        requests: sampled by the world.
        world: the truth; lists are as long as its slots.
        limit: judge at most so many requests, the last by time; 0 judges all.
        bootstrap: resamples of the intervals, over users.
        beam: width of the search for the near-optimum.
        reward_beam: width of the search over learned rewards; 0 leaves the two parts out.
        lists: random and proposed lists per request for the correlations.
        seed: of resamples and random lists.
        device: where rankers and rewards run.
        progress: called with (bundles done, bundles in all).

    Raises:
        ConfigError: no bundle, a bundle named like a baseline, or an option below its least.
        DataError: the requests are not of this world.
    """
    _check(bundles, limit, bootstrap, reward_beam)
    table = _latest(requests, limit)
    columns = {name: each.encoder.encode(table) for name, each in bundles.items()}
    judge = RegretMeter(world, table, next(iter(columns.values())))
    truth = judge.reference_rewards(beam)
    if taken := set(bundles) & set(truth.rewards):
        raise ConfigError(
            f"bundle name {sorted(taken)} is a baseline's; remedy: --bundle NAME=FOLDER"
        )
    resampler = resample(table.frame["user_id"].to_numpy(), "user", bootstrap, seed)
    rows, parts = {}, {}
    for done, (name, each) in enumerate(bundles.items()):
        if progress is not None:
            progress(done, len(bundles))
        judged = judge.evaluate(
            each.ranker, each.reward, columns[name],
            beam=reward_beam, lists=lists, seed=seed, device=device,
        )  # fmt: skip
        rows[name] = _row(judged.reward.numpy(), truth, resampler, "trained")
        if judged.found is not None:
            parts[name] = _parts(judged, truth, resampler)
    for name, values in truth.rewards.items():
        rows[name] = _row(values.numpy(), truth, resampler, "baseline")
    return WorldCard(world.config.name, len(table), world.config.slots, truth.gap, rows, parts)


def _check(bundles: Mapping[str, Bundle], limit: int, bootstrap: int, reward_beam: int) -> None:
    if not bundles:
        raise ConfigError("no bundle to judge; option: --bundle")
    if limit < 0 or bootstrap < 1 or reward_beam < 0:
        raise ConfigError(
            f"limit={limit} and reward_beam={reward_beam} must be at least 0 and "
            f"bootstrap={bootstrap} at least 1"
        )


def _latest(requests: Requests, limit: int) -> Requests:
    if len(requests) == 0:
        raise DataError("there are no requests to judge; remedy: goalrank world sample")
    if limit == 0 or len(requests) <= limit:
        return requests
    order = np.argsort(requests.frame["time"].to_numpy(), kind="stable")
    return requests.take(order[-limit:])


def _row(reward: Array, truth: ReferenceRewards, resampler: Resampler, kind: str) -> WorldRow:
    best, scorer = truth.best.numpy(), float(truth.rewards[_SCORER].mean())
    of_reward, of_regret = resampler.intervals(np.stack([reward, best - reward], 1))
    room = float(best.mean()) - scorer
    return WorldRow(
        reward=of_reward,
        regret=of_regret,
        share_of_best=float(reward.mean() / best.mean()),
        share_exact=share_exact(truth.best.new_tensor(reward), truth.best),
        gap_closed=(float(reward.mean()) - scorer) / room if room > 1e-12 else float("nan"),
        kind=kind,
    )


def _parts(judged: TrueEvaluation, truth: ReferenceRewards, resampler: Resampler) -> RegretParts:
    found = cast(Tensor, judged.found)
    learned, learned_found = cast(Tensor, judged.learned), cast(Tensor, judged.learned_found)
    values = [found - judged.reward, truth.best - found, learned_found - learned]
    policy, reward, search = resampler.intervals(np.stack([v.numpy() for v in values], 1))
    correlation = {
        which: {name: spread.to_dict() for name, spread in each.items()}
        for which, each in judged.correlation.items()
    }
    return RegretParts(policy, reward, search, correlation)


def _row_table(rows: Mapping[str, WorldRow]) -> Table:
    cells = []
    for name, row in sorted(rows.items(), key=lambda item: item[1].regret.mean):
        shares = (row.share_of_best, row.share_exact, row.gap_closed)
        spans = (_span(row.reward), _span(row.regret))
        cells.append([name, *spans, *(f"{share:.1%}" for share in shares)])
    head = ("list", "true reward", "regret", "of best", "exact", "gap closed")
    return Table(make_columns(*head), cells)


def _part_table(parts: Mapping[str, RegretParts]) -> Table:
    cells = []
    for name, part in parts.items():
        order = [
            f"{part.correlation[which]['spearman']['mean']:.3f}" if part.correlation else "–"
            for which in ("random", "proposed")
        ]
        errors = (part.policy_error, part.reward_error, part.policy_error_learned)
        cells.append([name, *(_span(error) for error in errors), *order])
    head = (
        "taught ranker", "policy error", "reward error", "policy error (learned reward)",
        "correlation, random lists", "correlation, proposed lists",
    )  # fmt: skip
    return Table(make_columns(*head), cells)


def _span(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
