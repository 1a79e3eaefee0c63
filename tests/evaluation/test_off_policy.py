"""Off-policy estimates: exact on enumerated worlds, covering at their rate, refusing without support."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import ConfigError, DataError, InfeasibleError
from goalrank.evaluation import (
    BIASED,
    ESTIMATORS,
    Logged,
    Resampler,
    check_propensities,
    check_support,
    effective_size,
    estimate,
    measure_support,
    refuse,
)
from goalrank.worlds import (
    EPOCH_US,
    LoggingConfig,
    LoggingPolicy,
    World,
    WorldConfig,
    all_rewards,
    enumerate_lists,
    list_log_prob,
)
from goalrank.worlds.sampling.feedback import draw_feedback
from goalrank.worlds.sampling.request_draws import DrawnRequests, draw_requests

SLOTS = 2
WORLD = World(
    WorldConfig(
        users=4000, items=60, clusters=6, candidates=5, slots=SLOTS, history=0, fatigue=0.8,
        logging=LoggingConfig(random=0.4, pointwise=0.5, popular=0.1, shuffle=0.0),
    )
)  # fmt: skip
LISTS = enumerate_lists(5, SLOTS)


@dataclass
class Draw:
    """Requests with the logging policy and a new one (Plackett-Luce on sharper scores)."""

    asked: DrawnRequests
    logging: LoggingPolicy

    @classmethod
    def of(cls, rows: int, seed: int, shuffle: float = 0.0) -> Draw:
        generator = torch.Generator().manual_seed(seed)
        config = WORLD.config.logging.model_copy(update={"shuffle": shuffle})
        return cls(
            draw_requests(WORLD, seed * rows, rows, EPOCH_US, generator), LoggingPolicy(config)
        )

    @property
    def scores(self) -> torch.Tensor:
        return self.asked.scores * 0.8

    @property
    def scene(self):
        return WORLD.response_model(self.asked.users, self.asked.items, self.asked.days)

    def every(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Probability under the new policy and true reward of all lists: [B, P] each."""
        chance = [
            list_log_prob(self.scores, each.expand(len(self.scores), -1)).exp() for each in LISTS
        ]
        return torch.stack(chance, 1), all_rewards(self.scene, LISTS)

    def view(self, lists: torch.Tensor, rewards: torch.Tensor, model=None) -> Logged:
        """lists [B, L], slot rewards [B, L]; `model`: values [B, P] of all lists."""
        prefixes = [
            torch.stack([f(lists[:, :t]) for t in range(1, SLOTS + 1)], 1).numpy()
            for f in (
                lambda part: list_log_prob(self.scores, part),
                lambda part: self.logging.log_prob(WORLD, self.asked, part),
            )
        ]
        predicted = baseline = None
        if model is not None:
            place = (LISTS[None] == lists[:, None]).all(-1).double().argmax(1)
            predicted = model.gather(1, place[:, None])[:, 0].numpy()
            baseline = (self.every()[0] * model).sum(1).numpy()
        return Logged(
            reward=rewards.sum(1).numpy(), log_target=prefixes[0][:, -1],
            log_logging=prefixes[1][:, -1], predicted=predicted, baseline=baseline,
            slot_reward=rewards.numpy(), prefix_target=prefixes[0], prefix_logging=prefixes[1],
        )  # fmt: skip

    def sample(self, seed: int, model=None) -> Logged:
        generator = torch.Generator().manual_seed(seed + 10**6)
        lists, _ = self.logging(WORLD, self.asked, generator)
        feedback = draw_feedback(self.scene, lists, generator, cascade=True)
        return self.view(lists, feedback[..., 0].double(), model)


def expected(draw: Draw, name: str, model=None, spoil: float = 0.0) -> tuple[float, float]:
    """An estimator's expectation over every list that could have been logged, and the truth."""
    chance, reward = draw.every()
    b, total = len(chance), 0.0
    for each in LISTS:
        lists = each.expand(b, -1)
        slots = draw.scene.slot_probabilities(lists[:, None])[:, 0, :, 0]
        logged = draw.view(lists, slots + spoil, model)
        terms = ESTIMATORS[name](logged, np.inf)
        total += float((np.exp(logged.log_logging)[:, None] * terms.top).sum(1).mean())
    return total, float((chance * (reward + spoil * SLOTS)).sum(1).mean())


@pytest.mark.parametrize("name", ["ips", "clipped", "position-ips"])
@pytest.mark.parametrize("shuffle", [0.0, 0.4])
def test_no_bias_over_all_lists(name, shuffle):
    if name == "position-ips" and shuffle:
        pytest.skip("a shuffled list's prefixes have no cheap probability")
    got, truth = expected(Draw.of(6, 1, shuffle), name)
    assert got == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("model", ["exact", "wrong"])
@pytest.mark.parametrize("name", ["dr", "switch-dr"])
def test_doubly_robust_has_no_bias_whatever_the_model(model, name):
    draw = Draw.of(6, 2)
    reward = draw.every()[1]
    values = reward if model == "exact" else reward * 0.2 + 3.0
    got, truth = expected(draw, name, values)
    assert got == pytest.approx(truth, abs=1e-9)


def test_doubly_robust_with_an_exact_model_needs_no_right_weights():
    draw = Draw.of(50, 3)
    chance, reward = draw.every()
    lists, _ = draw.logging(WORLD, draw.asked, torch.Generator().manual_seed(0))
    slots = draw.scene.slot_probabilities(lists[:, None])[:, 0, :, 0]
    logged = draw.view(lists, slots, reward)
    broken = replace(logged, log_logging=logged.log_logging - 1.5)
    for each in (logged, broken):
        got = ESTIMATORS["dr"](each, np.inf).value
        assert got == pytest.approx(float((chance * reward).sum(1).mean()), abs=1e-9)
    assert ESTIMATORS["ips"](broken, np.inf).value > 1.5 * got


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5), cap=st.floats(0.2, 5))
def test_laws_of_weights(seed, shift, cap):
    rng = np.random.default_rng(seed)
    target, logging = np.log(rng.uniform(0.01, 1, (2, 40)))
    reward = rng.uniform(0, 2, 40)
    logged = Logged(reward, target, logging)
    moved = replace(logged, reward=reward + shift)
    value = {name: ESTIMATORS[name](logged, cap).value for name in ("ips", "snips", "clipped")}
    assert ESTIMATORS["snips"](moved, cap).value == pytest.approx(value["snips"] + shift, abs=1e-9)
    assert value["clipped"] <= value["ips"] + 1e-12
    assert value["clipped"] <= cap * reward.mean() + 1e-12
    assert ESTIMATORS["clipped"](logged, logged.weight.max()).value == pytest.approx(value["ips"])
    assert reward.min() - 1e-12 <= value["snips"] <= reward.max() + 1e-12
    assert 1 - 1e-12 <= effective_size(logged.weight) <= 40 + 1e-9
    own = replace(logged, log_target=logging)
    assert effective_size(own.weight) == pytest.approx(40)
    for name in value:
        assert ESTIMATORS[name](own, 1.0).value == pytest.approx(reward.mean())


def coverage(replications: int, rows: int = 400, resamples: int = 300) -> dict[str, float]:
    """Share of intervals that hold the true value of the new policy."""
    large = Draw.of(40_000, 7)
    chance, reward = large.every()
    truth = float((chance * reward).sum(1).mean())
    needs_more = {"independent-ips", "cascade-dr"}
    names = [name for name in ESTIMATORS if name not in {*BIASED, *needs_more}]
    hits = dict.fromkeys(names, 0)
    for seed in range(replications):
        draw = Draw.of(rows, 100 + seed)
        logged = draw.sample(seed, draw.every()[1] * 0.5 + 0.3)
        users = np.unique(draw.asked.users.numpy(), return_inverse=True)[1]
        _, found = estimate(logged, names, Resampler(users, resamples, seed), cap=100.0)
        for name in names:
            hits[name] += found[name].value.low <= truth <= found[name].value.high
    return {name: count / replications for name, count in hits.items()}


def _within(shares: dict[str, float], replications: int) -> None:
    room = 3.5 * (0.95 * 0.05 / replications) ** 0.5
    assert all(abs(share - 0.95) < room + 0.01 for share in shares.values()), shares


def test_intervals_cover_the_truth():
    _within(coverage(60), 60)


@pytest.mark.slow
def test_intervals_cover_the_truth_at_length():
    _within(coverage(400, 800, 500), 400)


def test_gain_is_the_value_less_the_logs_own_mean():
    draw = Draw.of(300, 5)
    logged = draw.sample(5)
    own, found = estimate(logged, ["snips"], Resampler(np.arange(300), 200, 0))
    each = found["snips"]
    assert each.gain.mean == pytest.approx(each.value.mean - own.mean)
    same = replace(logged, log_target=logged.log_logging)
    own, found = estimate(same, ["snips", "ips"], Resampler(np.arange(300), 200, 0))
    assert found["ips"].value == own
    assert found["snips"].gain.high == pytest.approx(0, abs=1e-12)


def reasons(logged: Logged, choices: int = 5, greedy: bool = False) -> str:
    support = measure_support(logged, np.full(len(logged.reward), choices), 10.0)
    return "; ".join(check_support(support, min_effective=50, greedy=greedy))


def test_missing_support_is_named():
    n = 400
    good = Logged(np.ones(n), np.full(n, -1.0), np.full(n, -1.0))
    assert reasons(good) == ""
    certain = replace(good, log_logging=np.zeros(n))
    assert "probability 1" in reasons(certain)
    assert "probability 1" not in reasons(certain, choices=1)
    half = np.where(np.arange(n) % 2, -1.0, -np.inf)
    assert "could not be logged" in reasons(replace(good, log_target=half))
    few = np.where(np.arange(n) < 20, -1.0, -np.inf)
    said = reasons(replace(good, log_target=few), greedy=True)
    assert "20.0 of 400" in said
    assert "95% of the logged lists are impossible" in said
    assert "temperature" in said
    with pytest.raises(InfeasibleError, match="allow-weak-support"):
        refuse((said,))
    refuse(())


@pytest.mark.parametrize(
    ("propensity", "message"),
    [
        (None, "no column"),
        ([0.5, 0.0], r"0\.0 in row 1"),
        ([0.5, 1.5], r"1\.5 in row 1"),
        ([0.5, np.nan], "1 of 2"),
        ([np.nan, np.nan], "2 of 2"),
    ],
)
def test_propensities_are_needed(propensity, message):
    values = None if propensity is None else np.array(propensity)
    with pytest.raises(DataError, match=message):
        check_propensities(values)


def test_unknown_propensities_can_be_left_out():
    assert check_propensities(np.array([0.5, np.nan]), drop_unknown=True).tolist() == [True, False]
    with pytest.raises(DataError, match="none of 1"):
        check_propensities(np.array([np.nan]), drop_unknown=True)


def test_faults_of_the_user():
    logged = Logged(np.ones(3), np.zeros(3), np.zeros(3))
    resampler = Resampler(np.arange(3), 10, 0)
    with pytest.raises(ConfigError, match="unknown"):
        estimate(logged, ["magic"], resampler)
    with pytest.raises(ConfigError, match="cap"):
        estimate(logged, ["ips"], resampler, cap=0.0)
    with pytest.raises(DataError, match="reward model"):
        estimate(logged, ["dr"], resampler)
    with pytest.raises(DataError, match="slot_propensity"):
        estimate(logged, ["position-ips"], resampler)
