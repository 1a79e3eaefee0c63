"""The truth: closed form against a plain reference, against draws, and its laws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import DataError
from goalrank.worlds import KindConfig, ResponseModel, World
from goalrank.worlds.sampling.feedback import draw_feedback
from tests.worlds.conftest import requests_of, rich

changes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "examination": st.sampled_from(["position", "cascade"]),
        "continue_click": st.floats(0, 1),
        "continue_skip": st.floats(0, 1),
        "decay": st.floats(0, 1),
        "fatigue": st.floats(0, 3),
        "complementarity": st.floats(0, 3),
        "noise": st.sampled_from([0.0, 1.0]),
        "similarity_power": st.sampled_from([1.0, 2.0]),
    }
)


def reference(
    model: ResponseModel, b: int, chosen: list[int], *, cascade: bool, decay: float
) -> float:
    """r* of one list with plain Python numbers, by enumerating every click pattern."""
    parameters, total = model.parameters, 0.0
    for mood in parameters.logit_shifts.tolist():
        attraction = []
        for t, j in enumerate(chosen):
            before = chosen[:t]
            logit = float(model.base[b, j]) + mood
            if any(bool(model.complements[b, i, j]) for i in before):
                logit += parameters.complementarity
            tired = sum(float(model.similarity[b, i, j]) for i in before)
            attraction.append(math.exp(-parameters.fatigue * tired) / (1.0 + math.exp(-logit)))
        for pattern in range(2 ** len(chosen)):
            chance, reach = 1.0, 1.0
            # P(pattern is what would be clicked if all were seen); then the chance to see slot t.
            for t, a in enumerate(attraction):
                hit = pattern >> t & 1
                chance *= a if hit else 1.0 - a
            for t, j in enumerate(chosen):
                hit = pattern >> t & 1
                seen = reach if cascade else decay**t
                worth = float(model.given_click[b, j] @ parameters.weights)
                total += chance * seen * hit * worth / len(parameters.logit_shifts)
                reach *= parameters.after_click if hit else parameters.after_skip
    return total


@settings(max_examples=25, deadline=None)
@given(changes=changes)
def test_closed_form_is_the_reference(changes: dict[str, object]) -> None:
    world = World(rich(**changes))
    users, items = requests_of(world, 2)
    model = world.response_model(users, items)
    lists = torch.tensor([[[0, 3, 5], [5, 1, 2]], [[2, 1, 0], [4, 0, 3]]])
    got = model.reward(lists)
    cascade = world.config.examination == "cascade"
    for b in range(2):
        for g in range(2):
            want = reference(
                model, b, lists[b, g].tolist(), cascade=cascade, decay=world.config.decay
            )
            assert float(got[b, g]) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("examination", ["position", "cascade"])
def test_closed_form_is_the_mean_of_draws(examination: str) -> None:
    world = World(rich(examination=examination, decay=0.7, continue_click=0.5, slots=4))
    draws = 20_000
    users, items = requests_of(world, 3)
    lists = torch.tensor([[0, 1, 2, 3], [5, 3, 1, 0], [4, 2, 0, -1]])
    generator = torch.Generator().manual_seed(1)
    many = torch.arange(3).repeat_interleave(draws)
    feedback = draw_feedback(
        world.response_model(users[many], items[many]),
        lists[many],
        generator,
        cascade=examination == "cascade",
    ).double()
    want = world.slot_probabilities(users, items, lists[:, None])[:, 0]
    got = feedback.view(3, draws, 4, 2)
    error = (want * (1 - want) / draws).sqrt()
    assert bool(((got.mean(dim=1) - want).abs() <= 4 * error + 1e-12).all())
    weights = world.response_parameters.weights
    total = (got @ weights).sum(dim=2)
    reward = world.reward(users, items, lists[:, None])[:, 0]
    assert bool(((total.mean(dim=1) - reward).abs() <= 4 * total.std(dim=1) / draws**0.5).all())
    # A kind other than the click never happens without one.
    assert bool((feedback[..., 1] <= feedback[..., 0]).all())


def test_cascade_clicks_decide_whether_the_next_slot_is_examined() -> None:
    """With continue_click = 0 nobody clicks twice; with 1 and no skips everybody sees all."""
    world = World(rich(continue_click=0.0, continue_skip=1.0))
    users, items = requests_of(world, 500)
    lists = torch.arange(3).expand(500, 3)
    model = world.response_model(users, items)
    clicks = draw_feedback(model, lists, torch.Generator().manual_seed(0), cascade=True)[..., 0]
    assert float(clicks.sum(dim=1).max()) == 1.0


@settings(max_examples=15, deadline=None)
@given(changes=changes, hole=st.integers(0, 3))
def test_empty_slots_do_not_change_the_reward(changes: dict[str, object], hole: int) -> None:
    world = World(rich(**changes))
    users, items = requests_of(world, 4)
    full = torch.tensor([4, 0, 2])
    holed = torch.cat([full[:hole], torch.tensor([-1]), full[hole:]])
    a = world.reward(users, items, full.expand(4, 1, 3))
    b = world.reward(users, items, holed.expand(4, 1, 4))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


@settings(max_examples=15, deadline=None)
@given(changes=changes)
def test_prefixes_grow_to_the_reward(changes: dict[str, object]) -> None:
    world = World(rich(**changes))
    model = world.response_model(*requests_of(world, 3))
    lists = torch.tensor([[[1, 4, 0], [2, 5, 3]]]).expand(3, 2, 3)
    prefix = model.empty_prefix()
    for t in range(3):
        parent = torch.zeros(3, 2, dtype=torch.int64) if t == 0 else torch.arange(2).expand(3, 2)
        prefix = model.extend(prefix, parent, lists[:, :, t])
    assert torch.equal(prefix.lists, lists)
    torch.testing.assert_close(prefix.value, model.reward(lists), rtol=0, atol=1e-12)
    assert int(prefix.used.sum()) == 3 * 2 * 3


def test_a_request_does_not_depend_on_its_neighbours(world: World) -> None:
    users, items = requests_of(world, 64)
    lists = torch.stack([torch.randperm(6)[:3] for _ in range(64 * 5)]).view(64, 5, 3)
    together = world.reward(users, items, lists)
    for b in (0, 17, 63):
        alone = world.reward(users[b : b + 1], items[b : b + 1], lists[b : b + 1])
        torch.testing.assert_close(alone[0], together[b], rtol=0, atol=1e-14)
    padded = torch.cat([items, torch.full((64, 3), -1)], dim=1)
    torch.testing.assert_close(world.reward(users, padded, lists), together, rtol=0, atol=1e-14)


def test_permuting_candidates_permutes_lists(world: World) -> None:
    users, items = requests_of(world, 8)
    order = torch.randperm(6)
    lists = torch.tensor([[[0, 2, 4]]]).expand(8, 1, 3)
    moved = order.argsort()[lists]
    torch.testing.assert_close(
        world.reward(users, items, lists), world.reward(users, items[:, order], moved)
    )


def test_fatigue_lowers_and_complement_raises() -> None:
    calm, tired = World(rich(fatigue=0.0)), World(rich(fatigue=1.0))
    helped = World(rich(complementarity=3.0))
    users, items = requests_of(calm, 50)
    lists = torch.arange(3).expand(50, 1, 3)
    plain = World(rich(complementarity=0.0)).reward(users, items, lists)
    assert float(tired.reward(users, items, lists).mean()) < float(
        calm.reward(users, items, lists).mean()
    )
    # Where a click seldom ends the visit, more attraction never hurts.
    assert float(helped.reward(users, items, lists).mean()) > float(plain.mean())


def test_drift_rotates_user_vectors_and_keeps_their_length() -> None:
    world = World(rich(drift=0.1, season=0.5))
    users, items = requests_of(world, 20)
    lists = torch.arange(3).expand(20, 1, 3)
    then = torch.full((20,), 10.0, dtype=torch.float64)
    now = world.reward(users, items, lists)
    torch.testing.assert_close(now, world.reward(users, items, lists, then * 0))
    assert float((world.reward(users, items, lists, then) - now).abs().max()) > 0.01
    turned = world.user_vectors(users, then)
    torch.testing.assert_close(turned.norm(dim=1), world.user_vectors(users).norm(dim=1))
    # A full turn comes home.
    circle = torch.full((20,), 2 * math.pi / 0.1, dtype=torch.float64)
    torch.testing.assert_close(world.user_vectors(users, circle), world.user_vectors(users))


def test_seasons_return() -> None:
    world = World(rich(season=0.5, season_days=7.0))
    users, items = requests_of(world, 20)
    lists = torch.arange(3).expand(20, 1, 3)
    day = torch.full((20,), 2.0, dtype=torch.float64)
    now = world.reward(users, items, lists, day)
    assert float((world.reward(users, items, lists, day + 3.0) - now).abs().max()) > 0.01
    torch.testing.assert_close(world.reward(users, items, lists, day + 7.0), now)


def test_feedback_types_follow_their_own_preferences() -> None:
    kinds = (KindConfig(weight=0.0), KindConfig(name="like", scale=3.0))
    world = World(rich(kinds=kinds, complementarity=0.0))
    users, items = requests_of(world, 30)
    lists = torch.arange(3).expand(30, 1, 3)
    slots = world.slot_probabilities(users, items, lists)
    torch.testing.assert_close(world.reward(users, items, lists), slots[..., 1].sum(dim=2))
    ratio = slots[..., 1] / slots[..., 0]
    assert float(ratio.std()) > 0.05


def test_faulty_lists_and_numbers_are_refused(world: World) -> None:
    users, items = requests_of(world, 2)
    lists = torch.zeros(2, 1, 3, dtype=torch.int64)
    for bad, match in [
        (lists + 6, "positions"),
        (lists - 2, "positions"),
        (lists[:1], "B=2"),
    ]:
        with pytest.raises(DataError, match=match):
            world.reward(users, items, bad)
    padded = items.clone()
    padded[:, 0] = -1
    with pytest.raises(DataError, match="padded"):
        world.reward(users, padded, lists)
    with pytest.raises(DataError, match="users"):
        world.reward(users + 30, items, lists)
    with pytest.raises(DataError, match="at least one candidate"):
        world.reward(users, items[:, :0], lists)
