"""Logged lists weighed by what the logging policy made rare."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goalrank.errors import ConfigError
from goalrank.requests import EncodedRequests
from goalrank.rewards import ListReward
from goalrank.training import FitConfig, Job, LoopConfig, RewardTask, RunOptions
from goalrank.training.objectives.propensity_weights import list_weights
from tests.helpers import make_columns
from tests.rankers.kit import SMALL, shake, spec_of

LOGGED = make_columns(12, 6, protocol="exposed", seed=4)


def uniform(columns: EncodedRequests) -> np.ndarray:
    """Probability of each shown list under a random policy."""
    batch = columns.batch(slice(None))
    n, s = batch.candidate_mask.sum(-1).tolist(), batch.shown_mask.sum(-1).tolist()
    return np.array([1 / math.perm(a, b) for a, b in zip(n, s, strict=True)])


def with_propensity(columns: EncodedRequests, times: np.ndarray) -> EncodedRequests:
    """The log of a policy that showed each list so many times as often as a random one."""
    return replace(columns, propensity=(uniform(columns) * times).astype(np.float32))


@given(st.lists(st.floats(0.05, 20.0), min_size=12, max_size=12), st.floats(1.5, 8.0))
def test_a_weight_is_how_much_rarer_the_list_was_made(times, cap):
    batch = with_propensity(LOGGED, np.array(times)).batch(slice(None))
    expected = np.clip(1 / np.array(times), 1 / cap, cap)
    np.testing.assert_allclose(list_weights(batch, cap), expected, rtol=1e-4)


def test_lists_without_a_propensity_count_once():
    assert list_weights(LOGGED.batch(slice(None)), 5.0).tolist() == [1.0] * 12


def task(cap: float) -> RewardTask:
    torch.manual_seed(0)
    sizes = replace(SMALL, dropout=0.0, id_dropout=0.0)
    model = ListReward(spec_of(LOGGED), sizes, LOGGED.kinds, [1.0], slots=4)
    shake(model)  # untrained its networks give 0, and all lists the same loss
    made = RewardTask(
        model, LoopConfig(), 0, slots=4, negative=False, lists=1, propensity_cap=cap
    ).eval()
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    return made


def loss_of(cap: float, columns: EncodedRequests) -> float:
    return task(cap).training_step(columns.batch(slice(None)), 0).item()


def test_a_list_made_half_as_likely_counts_twice():
    times = np.ones(12)
    times[[2, 7]] = 0.5
    weighed = with_propensity(LOGGED, times)
    repeated = LOGGED.take(np.array([*range(12), 2, 7]))
    assert loss_of(9.0, weighed) == pytest.approx(loss_of(0.0, repeated), rel=1e-5)
    assert loss_of(0.0, weighed) != pytest.approx(loss_of(0.0, repeated), rel=1e-3)


def test_validation_weighs_alike():
    times = np.geomspace(0.2, 4, 12)
    batch = with_propensity(LOGGED, times).batch(slice(None))
    plain = task(0.0).validate_batch(batch)["score"]
    torch.testing.assert_close(
        task(9.0).validate_batch(batch)["score"], plain * list_weights(batch, 9.0)
    )


def job(columns: EncodedRequests, tmp_path, **reward) -> Job:
    config = FitConfig.model_validate({"reward": {"propensity_cap": 9.0, **reward}})
    return Job(spec_of(columns), columns, None, config, RunOptions(tmp_path, progress=False))


def test_nothing_to_correct_by_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no training request has a propensity.*propensity_cap"):
        job(LOGGED, tmp_path).fit_reward()
    weighed = with_propensity(LOGGED, np.ones(12))
    with pytest.raises(ConfigError, match=r"lists are drawn anew.*propensity_cap"):
        job(weighed, tmp_path, unexposed="negative").fit_reward()


@pytest.mark.parametrize("cap", [-1.0, 0.5, 1.0])
def test_a_cap_that_caps_everything_is_refused(cap):
    with pytest.raises(ValueError, match="propensity_cap"):
        FitConfig.model_validate({"reward": {"propensity_cap": cap}})
