from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import ConfigError
from goalrank.studies.theory import (
    BoundParts,
    Group,
    GroupTraining,
    Population,
    draw_bias,
    evidence_bound,
    make_population,
    train,
    with_floor,
)
from goalrank.studies.theory.bounds.training_run import draw_distinct, light_policy, make_group
from goalrank.studies.theory.settings import tiny_world

POPULATION = make_population(tiny_world(), 4, temperature=0.1, seed=1)


def _bound(
    seed: int, size: int, beta: float, scale: str, temperature: float, sharp: float, kind: str
) -> BoundParts:
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(POPULATION.reward.shape, generator=rng, dtype=torch.float64)
    log_prob = with_floor((sharp * noise).log_softmax(dim=1), 0.01)
    chosen = torch.randint(120, (4, size), generator=rng)
    earlier = torch.ones(size, size, dtype=torch.bool).tril(-1)
    valid = ~((chosen[:, :, None] == chosen[:, None, :]) & earlier).any(dim=2)
    bias = draw_bias(POPULATION, kind, beta, rng)  # type: ignore[arg-type]
    return evidence_bound(
        POPULATION, log_prob, POPULATION.reward + bias, Group(chosen, valid),
        beta=beta, floor=0.01, temperature=temperature, scale=scale,  # type: ignore[arg-type]
    )  # fmt: skip


@given(
    seed=st.integers(0, 9999),
    size=st.integers(1, 150),
    beta=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    scale=st.sampled_from(["none", "group"]),
    temperature=st.sampled_from([0.03, 0.1, 1.0]),
    sharp=st.sampled_from([0.0, 1.0, 10.0]),
    kind=st.sampled_from(["noise", "popularity"]),
)
@settings(max_examples=120, deadline=None)
def test_both_bounds_hold_for_every_request_group_and_bias(
    seed: int, size: int, beta: float, scale: str, temperature: float, sharp: float, kind: str
) -> None:
    parts = _bound(seed, size, beta, scale, temperature, sharp, kind)
    assert bool((parts.bound >= parts.kl - 1e-9).all())
    assert bool((parts.tight >= parts.kl - 1e-9).all())
    assert bool((parts.tight <= parts.bound + 1e-9).all())
    assert bool((parts.true_delta <= parts.delta + 1e-9).all())


def test_all_lists_without_bias_at_the_right_temperature_make_it_an_equality() -> None:
    everything = Group(torch.arange(120).expand(4, -1), torch.ones(4, 120, dtype=torch.bool))
    rng = torch.Generator().manual_seed(0)
    log_prob = with_floor(torch.randn(4, 120, generator=rng).double().log_softmax(1), 0.01)
    parts = evidence_bound(
        POPULATION, log_prob, POPULATION.reward, everything,
        beta=0.0, floor=0.01, temperature=0.1, scale="none",
    )  # fmt: skip
    torch.testing.assert_close(parts.bound, parts.kl)
    torch.testing.assert_close(parts.coverage, torch.ones_like(parts.coverage))


def test_each_part_is_needed() -> None:
    """Left out, the price of bias or of uncovered lists lets the bound fall below the KL."""
    free_swap = free_outside = False
    for seed in range(20):
        parts = _bound(seed, 400, 1.0, "none", 0.1, 3.0, "noise")
        free_swap |= bool((parts.bound - parts.coverage * parts.swap < parts.kl).any())
        parts = _bound(seed, 3, 0.0, "none", 0.1, 1.0, "noise")
        free_outside |= bool((parts.bound - parts.outside < parts.kl).any())
    assert free_swap
    assert free_outside


@given(seed=st.integers(0, 9999), spread=st.floats(0.0, 20.0))
@settings(max_examples=60, deadline=None)
def test_the_lemma_on_total_variation(seed: int, spread: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    p = torch.randn(7, generator=rng, dtype=torch.float64).softmax(0)
    d = torch.rand(7, generator=rng, dtype=torch.float64)
    d = spread * (d - d.min()) / (d.max() - d.min())
    q = (p.log() + d).softmax(0)
    assert 0.5 * float((p - q).abs().sum()) <= math.tanh(spread / 4.0) + 1e-12


def test_the_lemma_is_tight_for_two_points() -> None:
    spread = 3.0
    high = 1.0 / (1.0 + math.exp(-spread / 2.0))
    assert high - (1.0 - high) == pytest.approx(math.tanh(spread / 4.0))


def test_the_floor_bounds_every_probability() -> None:
    log_prob = torch.full((1, 120), -torch.inf, dtype=torch.float64)
    log_prob[0, 3] = 0.0
    floored = with_floor(log_prob, 0.01)
    assert float(floored.exp().sum()) == pytest.approx(1.0)
    assert float(-floored.min()) == pytest.approx(math.log(120 / 0.01))


def test_groups_hold_no_list_twice(population: Population) -> None:
    rng = torch.Generator().manual_seed(0)
    light = light_policy(population, population.reward, 0.1)
    torch.testing.assert_close(light.exp().sum(dim=1), torch.ones(3, dtype=torch.float64))
    group = make_group(population.log_prob, light, GroupTraining(own=20, light=30), rng)
    assert not bool(group.valid.all())
    for row, valid in zip(group.chosen, group.valid):
        kept = row[valid].tolist()
        assert len(kept) == len(set(kept)) == len(set(row.tolist()))


def test_distinct_draws_follow_the_policy(population: Population) -> None:
    rng = torch.Generator().manual_seed(0)
    wide = population.log_prob[:1].expand(20_000, -1)
    first = torch.bincount(draw_distinct(wide, 1, rng).flatten(), minlength=120) / 20_000
    assert float((first - population.log_prob[0].exp()).abs().max()) < 0.015


def test_the_bound_holds_along_training_and_eq_5_lowers_it(population: Population) -> None:
    run = GroupTraining(own=120, light=0, steps=60, width=8, rate=0.05)
    result = train(population, run, seed=0)
    trace = result["trace"]
    assert result["violations"] == 0
    assert result["checks"] == 3 * len(trace["step"])
    assert trace["bound"][-1] < 0.5 * trace["bound"][0]
    assert trace["kl"][-1] < 0.5 * trace["kl"][0]
    assert train(population, run, seed=0) == result


def test_settings_that_make_no_sense_are_refused(population: Population) -> None:
    with pytest.raises(ConfigError, match="own=0 and light=0"):
        GroupTraining(own=0, light=0)
    with pytest.raises(ConfigError, match=r"floor=1\.5"):
        GroupTraining(floor=1.5)
    with pytest.raises(ConfigError, match="gaussian"):
        GroupTraining(bias="gaussian")
    with pytest.raises(ConfigError, match="amplitude=-1"):
        draw_bias(population, "noise", -1, torch.Generator())
