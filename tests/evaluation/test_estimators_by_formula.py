"""Estimators against plain second implementations of their published formulas.

The formulas are those of the Open Bandit Pipeline (Saito, Aihara, Matsutani & Narita, 2021), whose
conventions are ours: w is not clipped, the switch keeps w ≤ λ, self-normalisation divides by mean w.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goalrank.errors import DataError
from goalrank.evaluation import ESTIMATORS, Logged, effective_clicks

DATA = os.environ.get("GOALRANK_DATA")


@dataclass
class Slates:
    """R slates of S slots: a Markov policy over K items, and a model of each slot's reward."""

    items: np.ndarray  # [R, S]
    reward: np.ndarray  # [R, S]
    target: np.ndarray  # [S, K] probability of the item at a slot, whatever stands before it
    logging: np.ndarray  # [S, K]
    model: np.ndarray  # [S, K] value of the item at the slot

    @classmethod
    def draw(cls, rows: int, seed: int, slots: int = 3, items: int = 5) -> Slates:
        rng = np.random.default_rng(seed)
        target, logging = rng.dirichlet(np.ones(items), (2, slots))
        logging = 0.5 * logging + 0.5 / items
        chosen = np.stack([rng.choice(items, rows, p=p) for p in logging], 1)
        truth, model = rng.random((2, slots, items))
        rate = truth[np.arange(slots), chosen]
        earlier = np.cumsum(chosen, 1) - chosen
        rate = rate / (1 + earlier / items)  # later slots depend on earlier ones
        return cls(chosen, (rng.random(rate.shape) < rate).astype(float), target, logging, model)

    def logged(self) -> Logged:
        at = (np.arange(self.items.shape[1]), self.items)
        item_target, item_logging = np.log(self.target[at]), np.log(self.logging[at])
        predicted = self.model[at]
        baseline = np.broadcast_to((self.target * self.model).sum(1), predicted.shape)
        return Logged(
            reward=self.reward.sum(1), log_target=item_target.sum(1),
            log_logging=item_logging.sum(1), predicted=predicted.sum(1), baseline=baseline.sum(1),
            slot_reward=self.reward, prefix_target=item_target.cumsum(1),
            prefix_logging=item_logging.cumsum(1), slot_predicted=predicted,
            slot_baseline=baseline, item_target=item_target, item_logging=item_logging,
        )  # fmt: skip


def by_formula(name: str, slates: Slates, switch: float) -> float:
    """Σ over requests with plain loops."""
    rows, slots = slates.items.shape
    whole, corrections, weights = 0.0, 0.0, 0.0
    for i in range(rows):
        single = [
            slates.target[t, slates.items[i, t]] / slates.logging[t, slates.items[i, t]]
            for t in range(slots)
        ]
        r, q = list(slates.reward[i]), [slates.model[t, slates.items[i, t]] for t in range(slots)]
        v = [float(slates.target[t] @ slates.model[t]) for t in range(slots)]
        w = math.prod(single)
        weights += w
        if name == "ips":
            whole += w * sum(r)
        elif name in ("snips", "sndr"):
            corrections += w * (sum(r) - (sum(q) if name == "sndr" else 0.0))
            whole += sum(v) if name == "sndr" else 0.0
        elif name == "dm":
            whole += sum(v)
        elif name == "dr":
            whole += sum(v) + w * (sum(r) - sum(q))
        elif name == "switch-dr":
            whole += sum(v) + (w * (sum(r) - sum(q)) if w <= switch else 0.0)
        elif name == "independent-ips":
            whole += sum(single[t] * r[t] for t in range(slots))
        elif name == "position-ips":
            whole += sum(math.prod(single[: t + 1]) * r[t] for t in range(slots))
        elif name == "cascade-dr":
            for t in range(slots):
                upto = math.prod(single[: t + 1])
                whole += upto * (r[t] - q[t]) + math.prod(single[:t]) * v[t]
    return whole / rows + (corrections / weights if corrections else 0.0)


NAMES = (
    "ips", "snips", "dm", "dr", "sndr", "switch-dr", "independent-ips", "position-ips", "cascade-dr"
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_slates_by_formula(name):
    slates = Slates.draw(300, 0)
    found = ESTIMATORS[name](slates.logged(), 2.0).value
    assert found == pytest.approx(by_formula(name, slates, 2.0), abs=1e-12)


@pytest.mark.parametrize("name", ["ips", "dr", "position-ips", "cascade-dr"])
def test_slates_have_the_right_mean_over_many_logs(name):
    """Slots depend on earlier ones: all but the independent estimator are without bias."""
    truth = _truth(Slates.draw(1, 0))
    values = [ESTIMATORS[name](_same_world(seed).logged(), np.inf).value for seed in range(200)]
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values) - truth) < 4 * error


def test_the_independent_estimator_is_biased_where_slots_depend_on_each_other():
    truth = _truth(Slates.draw(1, 0))
    values = [
        ESTIMATORS["independent-ips"](_same_world(seed).logged(), np.inf).value
        for seed in range(200)
    ]
    assert abs(np.mean(values) - truth) > 6 * np.std(values) / math.sqrt(len(values))


def test_cascade_dr_with_a_good_model_varies_least():
    spread = {
        name: np.std([ESTIMATORS[name](_same_world(s).logged(), np.inf).value for s in range(100)])
        for name in ("ips", "position-ips", "cascade-dr")
    }
    assert spread["cascade-dr"] < spread["position-ips"] < spread["ips"]


def _policies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    target = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.6, 0.2]])
    return target, np.full((3, 3), 1 / 3), rng.uniform(0.2, 0.9, (3, 3))


def _rates(truth: np.ndarray, items: np.ndarray) -> np.ndarray:
    earlier = np.cumsum(items == 0, 1) - (items == 0)
    return truth[np.arange(items.shape[1]), items] * 0.4**earlier


def _same_world(seed: int) -> Slates:
    target, logging, truth = _policies()
    rng = np.random.default_rng(1000 + seed)
    items = rng.integers(0, 3, (400, 3))
    reward = (rng.random(items.shape) < _rates(truth, items)).astype(float)
    return Slates(items, reward, target, logging, truth * 0.6)


def _truth(_: Slates) -> float:
    """Over all 27 slates."""
    target, _logging, truth = _policies()
    items = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chance = target[np.arange(3), items].prod(1)
    return float((chance * _rates(truth, items).sum(1)).sum())


def test_effective_clicks():
    assert effective_clicks(np.ones(100), np.r_[np.ones(28), np.zeros(72)]) == pytest.approx(28)
    assert effective_clicks(np.r_[100.0, np.ones(99)], np.ones(100)) < 4


@pytest.mark.parametrize("name", ["independent-ips", "cascade-dr", "dm", "sndr", "switch-dr"])
def test_what_an_estimator_needs_is_named(name):
    with pytest.raises(DataError, match="remedy"):
        ESTIMATORS[name](Logged(np.ones(3), np.zeros(3), np.zeros(3)), 1.0)


@pytest.mark.skipif(DATA is None, reason="GOALRANK_DATA is not set")
@pytest.mark.parametrize("name", ["ips", "snips", "dm", "dr", "sndr", "switch-dr"])
def test_open_bandit_by_formula(name):
    """The uniform log judges the other policy, whose chances per position do not know the user."""
    place = Path(str(DATA)) / "open-bandit"
    log, other = (pl.read_parquet(place / f"{which}-men.parquet") for which in ("random", "bts"))
    chance = np.zeros((3, 34))
    np.add.at(chance, (other["position"].to_numpy() - 1, other["item_id"].to_numpy()), 1.0)
    chance /= chance.sum(1, keepdims=True)
    position, item = log["position"].to_numpy() - 1, log["item_id"].to_numpy()
    click = log["click"].to_numpy().astype(float)
    pscore = log["propensity_score"].to_numpy()
    model = (0.01 + 0.001 * np.arange(34))[None].repeat(3, 0)
    with np.errstate(divide="ignore"):
        logged = Logged(
            click, np.log(chance[position, item]), np.log(pscore), predicted=model[position, item],
            baseline=(chance * model).sum(1)[position],
        )  # fmt: skip
    found = ESTIMATORS[name](logged, 3.0).value
    w = chance[position, item] / pscore
    q, v = model[position, item], (chance * model).sum(1)[position]
    wanted = {
        "ips": (w * click).mean(), "snips": (w * click).sum() / w.sum(), "dm": v.mean(),
        "dr": (v + w * (click - q)).mean(), "sndr": (v + w * (click - q) / w.mean()).mean(),
        "switch-dr": (v + (w <= 3.0) * w * (click - q)).mean(),
    }  # fmt: skip
    assert found == pytest.approx(wanted[name], rel=1e-9)
    if name in ("ips", "snips", "dr", "sndr"):
        error = np.std(w * click) / math.sqrt(len(w))
        assert abs(found - float(other["click"].to_numpy().mean())) < 4 * error
