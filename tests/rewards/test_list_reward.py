"""The list reward model: what may and what may not change a slot's probability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from goalrank.encoders import EncoderSizes
from goalrank.requests import Batch, EncodedRequests
from goalrank.rewards import Ensemble, ListReward, ObservedGain, Reward, Weighted
from goalrank.training import RewardConfig, build_reward
from tests.helpers import make_columns, make_entities
from tests.rankers.kit import (
    SMALL,
    all_lists,
    make_ranker,
    padded,
    permuted,
    rich_columns,
    shake,
    spec_of,
)

COLUMNS = rich_columns(5, 6, seed=3)
SLOTS = 4


def reward(**options: object) -> ListReward:
    model = ListReward(spec_of(COLUMNS), SMALL, COLUMNS.kinds, [1.0], **options)  # type: ignore
    shake(model)
    return model.eval()


def material(slots: int = SLOTS) -> tuple[Batch, Tensor]:
    batch = COLUMNS.batch(slice(None))
    ranker = make_ranker("random", COLUMNS)
    rng = torch.Generator().manual_seed(0)
    return batch, ranker.propose(batch, 5, slots, rng).lists


@torch.no_grad()
def test_later_slots_do_not_change_earlier_ones():
    batch, lists = material()
    full = lists[..., -1] >= 0
    other = lists.clone()
    other[..., 2:] = lists[..., 2:].flip(-1)
    causal, whole = reward(), reward(causal=False)
    a, b = causal.slot_probabilities(batch, lists), causal.slot_probabilities(batch, other)
    torch.testing.assert_close(a[..., :2, :], b[..., :2, :])
    assert not torch.allclose(a[full][:, 2:], b[full][:, 2:])
    a, b = whole.slot_probabilities(batch, lists), whole.slot_probabilities(batch, other)
    assert not torch.allclose(a[full][:, :2], b[full][:, :2])


@torch.no_grad()
def test_a_prefix_is_a_list():
    batch, lists = material()
    model = reward()
    short = model.slot_probabilities(batch, lists[..., :2])
    torch.testing.assert_close(model.slot_probabilities(batch, lists)[..., :2, :], short)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_padding_of_slots_lists_and_candidates_changes_nothing(causal):
    batch, lists = material()
    model = reward(causal=causal)
    want = model(batch, lists)
    longer = torch.cat([lists, torch.full((*lists.shape[:2], 3), -1)], -1)
    torch.testing.assert_close(model(batch, longer), want)
    more = torch.cat([lists, torch.full_like(lists, -1), lists[:, :2]], 1)
    got = model(batch, more)
    torch.testing.assert_close(got[:, :5], want)
    torch.testing.assert_close(got[:, 10:], want[:, :2])
    assert (got[:, 5:10] == 0).all()
    torch.testing.assert_close(model(padded(batch, 2, 2), lists), want)
    for b in range(batch.size):
        one = COLUMNS.batch([b])
        torch.testing.assert_close(model(one, lists[b : b + 1])[0], want[b])


@torch.no_grad()
def test_candidates_have_no_order():
    batch, lists = material()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    place = torch.cat([order.argsort(), torch.tensor([-1])])
    for model in (reward(), reward(causal=False)):
        torch.testing.assert_close(model(permuted(batch, order), place[lists]), model(batch, lists))


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_without_neighbours_a_slot_knows_its_item_and_place_alone(causal):
    """The same item at the same slot has the same probability whatever stands around it."""
    batch, lists = material()
    model = reward(neighbours=False, causal=causal)
    other = lists.clone()
    other[..., 2:] = lists[..., 2:].flip(-1)
    a, b = model.slot_probabilities(batch, lists), model.slot_probabilities(batch, other)
    torch.testing.assert_close(a[..., :2, :], b[..., :2, :])
    full = lists[..., -1] >= 0
    moved = lists.flip(-1)
    assert not torch.allclose(
        a[full], model.slot_probabilities(batch, moved)[full].flip(-2)
    )  # positions count
    alone = lists.clone()
    alone[..., 1:] = -1
    torch.testing.assert_close(a[..., :1, :], model.slot_probabilities(batch, alone)[..., :1, :])
    assert model.relations == 0
    assert len(model.blocks) == 1


@torch.no_grad()
def test_order_blind_configuration_is_blind_and_the_default_is_not():
    batch = COLUMNS.batch([int(np.diff(COLUMNS.candidate_start).argmax())])
    lists = all_lists(4, 4)
    blind = reward(list_layers=0, relations=0, positions=False)
    values = blind(batch, lists)
    torch.testing.assert_close(values, values[:, :1].expand_as(values))
    for model in (reward(), reward(list_layers=0, positions=False), reward(relations=0)):
        assert float(model(batch, lists).std()) > 1e-3
    # Without slot vectors, attention or likeness a slot knows nothing of the others.
    item_wise = blind.slot_probabilities(batch, lists)[0, :, 0, 0]
    for first in range(4):
        same = item_wise[lists[0, :, 0] == first]
        torch.testing.assert_close(same, same[:1].expand_as(same))


@torch.no_grad()
def test_reward_is_the_weighted_sum_of_probabilities():
    columns = rich_columns(4, 6, seed=1)
    columns = replace(
        columns, kinds=("click", "like"), feedback=np.repeat(columns.feedback, 2, axis=1)
    )
    model = ListReward(
        spec_of(columns), SMALL, ("like", "click"), (3.0, 0.5), slot_weights=[1.0, 0.5, 0.25]
    ).eval()
    shake(model)
    batch, lists = columns.batch(slice(None)), torch.tensor([[[1, 0, 2, -1]]]).expand(4, -1, -1)
    p = model.slot_probabilities(batch, lists)[:, 0]
    assert ((p >= 0) & (p <= 1)).all()
    want = sum(
        weight * (3.0 * p[:, t, 0] + 0.5 * p[:, t, 1]) for t, weight in enumerate([1, 0.5, 0.25])
    )
    torch.testing.assert_close(model(batch, lists)[:, 0], want)
    assert model.kind_index == [1, 0]


@torch.no_grad()
def test_longer_lists_than_slot_vectors():
    batch, lists = material(6)
    model = reward(slots=2, slot_weights=[1.0, 0.5])
    assert model(batch, lists).isfinite().all()


def test_loss_against_a_loop():
    batch, lists = material()
    model = reward()
    rng = torch.Generator().manual_seed(1)
    feedback = torch.rand(*lists.shape, 1, generator=rng)
    known = (torch.rand(lists.shape, generator=rng) < 0.6) & (lists >= 0)
    logits = model.slot_logits(batch, lists)[..., 0].double()
    p, q = logits.sigmoid(), (-logits).sigmoid()  # 1 - p would lose digits where p is near 1
    each = -(feedback[..., 0] * p.log() + (1 - feedback[..., 0]) * q.log()).float()
    want = each[known].mean()
    torch.testing.assert_close(model.loss(batch, lists, feedback, known), want)
    nothing = model.loss(batch, lists, feedback, torch.zeros_like(known))
    assert float(nothing.detach()) == 0.0


class Fixed(Reward):
    """Gives what it was told."""

    def __init__(self, values: list[list[float]]) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        return self.values


@torch.no_grad()
@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_listwise_loss_against_a_loop(weight):
    model, batch = reward(), COLUMNS.batch(slice(None))
    model.kind_weights.fill_(weight)
    n = batch.candidates.shape[1]
    feedback = torch.rand(
        batch.size, n, len(COLUMNS.kinds), generator=torch.Generator().manual_seed(1)
    )
    feedback[0] = 0  # nothing liked: teaches nothing
    found = model.listwise_loss(batch, feedback, model.encode(batch))
    each = []
    for b in range(1, batch.size):
        real = batch.candidate_mask[b].nonzero()[:, 0].tolist()
        logits = torch.stack(
            [model.slot_logits(batch, torch.full((batch.size, 1, 1), i))[b, 0, 0, 0] for i in real]
        )
        y = feedback[b, real, 0]
        each.append(float(-(y * logits.log_softmax(0)).sum() / y.sum()))
    assert float(found) == pytest.approx(weight * sum(each) / len(each), rel=1e-5)


def test_ensemble_is_pessimistic():
    batch, lists = material()
    members = [Fixed([[1.0, 5.0]]), Fixed([[3.0, 5.0]]), Fixed([[5.0, 5.0]])]
    assert Ensemble(members)(batch, lists).tolist() == [[3.0, 5.0]]
    assert Ensemble(members, 0.5)(batch, lists).tolist() == [[3.0 - 0.5 * 2.0, 5.0]]
    assert Ensemble(members[:1], 0.5)(batch, lists).tolist() == [[1.0, 5.0]]
    assert torch.equal(
        Weighted(members[:2], [1.0, -2.0])(batch, lists), torch.tensor([[-5.0, -5.0]])
    )


def test_observed_gain_against_a_loop():
    batch, lists = material()
    got = ObservedGain()(batch, lists)
    for b in range(batch.size):
        for g in range(lists.shape[1]):
            want = sum(
                float(batch.relevance[b, i]) / np.log2(t + 2)
                for t, i in enumerate(lists[b, g].tolist())
                if i >= 0
            )
            assert float(got[b, g]) == pytest.approx(want, abs=1e-6)
    assert float(got.abs().sum()) > 0


def fatigue_columns(requests: int, seed: int) -> EncodedRequests:
    """Items of two sorts; one is clicked unless an item of its sort stands before it.

    Lists are random, so an item on its own tells nothing but the average.
    """
    rng = np.random.default_rng(seed)
    columns = make_columns(requests, 4, shown=4, history=0, items=20, seed=seed)
    candidates = np.stack([rng.choice(np.arange(1, 21), 4, replace=False) for _ in range(requests)])
    shown = np.stack([rng.permutation(4) for _ in range(requests)])
    sort = np.take_along_axis(candidates, shown, 1) % 2
    seen = [(sort[:, :t] == sort[:, t : t + 1]).any(1) for t in range(4)]
    chance = np.where(np.stack(seen, 1), 0.1, 0.9)
    starts = np.arange(0, 4 * requests + 1, 4)
    return replace(
        columns, items=make_entities(23), protocol="exposed",
        candidate_start=starts, candidates=candidates.astype(np.int32).ravel(),
        candidate_score=np.zeros(4 * requests, np.float32),
        candidate_features=np.zeros((4 * requests, 0), np.float32),
        shown_start=starts, shown=shown.astype(np.int32).ravel(),
        feedback=(rng.random(chance.shape) < chance).astype(np.float32).reshape(-1, 1),
    )  # fmt: skip


def test_fatigue_is_learned():
    train, test = fatigue_columns(1500, 0), fatigue_columns(300, 1)
    sizes = EncoderSizes(width=16, layers=0, heads=2, dropout=0.0, id_dropout=0.0)
    losses = {}
    for name, options in {
        "whole": {"list_layers": 0},
        "blind": {"list_layers": 0, "relations": 0, "positions": False},
    }.items():
        torch.manual_seed(0)
        model = ListReward(spec_of(train), sizes, train.kinds, [1.0], **options)  # type: ignore
        losses[name] = fitted_loss(model, train, test, epochs=5, lr=2e-2)
    noise = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))  # the best that anyone can do
    assert losses["blind"] > 0.6
    assert losses["whole"] < noise + 0.1


@torch.no_grad()
def test_product_link_multiplies_probabilities():
    model = reward(link="product")
    batch, lists = material()
    encoded = model.encode(batch)
    alone = encoded.item_logits[
        torch.arange(batch.size)[:, None, None], lists.clamp_min(0)
    ].sigmoid()
    got = model.slot_probabilities(batch, lists)
    assert (got <= alone * (lists >= 0)[..., None] + 1e-6).all()  # a list can only take away
    summed = reward()
    summed.load_state_dict(model.state_dict())
    listed = summed.slot_logits(batch, lists, encoded) - alone.logit()
    want = alone * listed.sigmoid() * (lists >= 0)[..., None]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_product_link_is_finite_where_both_are_certain():
    model = ListReward(spec_of(COLUMNS), SMALL, COLUMNS.kinds, [1.0], link="product")
    batch, lists = material()
    for bias in (200.0, 60.0, -60.0, -200.0):
        torch.nn.init.constant_(model.head.bias, bias)
        last = model.item_head[-1]
        assert isinstance(last, torch.nn.Linear)
        torch.nn.init.constant_(last.bias, bias)
        loss = model.slot_logits(batch, lists).square().mean()
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_settings_reach_the_model():
    config = RewardConfig(link="product", relations=2, width=16, heads=2)
    model = build_reward(spec_of(COLUMNS), config, COLUMNS, SLOTS)
    assert isinstance(model, ListReward)
    assert (model.link, model.relations) == ("product", 2)


def taste_columns(requests: int, seed: int) -> EncodedRequests:
    """Users and items have vectors; an item is clicked with the sign of their product, 9 times
    in 10. Ids are all that the model is given."""
    rng = np.random.default_rng(seed)
    base = make_columns(requests, 6, shown=6, history=0, items=40, users=30, features=0, seed=seed)
    vectors = np.random.default_rng(99)
    users, items = vectors.normal(size=(34, 4)), vectors.normal(size=(44, 4))
    row = np.repeat(np.arange(requests), np.diff(base.shown_start))
    item = base.candidates[base.candidate_start[row] + base.shown]
    liked = (users[base.user[row]] * items[item]).sum(1) > 0
    click = np.where(rng.random(len(liked)) < 0.9, liked, ~liked)
    return replace(
        base, protocol="exposed", feedback=click.astype(np.float32)[:, None],
        candidate_score=np.zeros(len(base.candidates), np.float32),
    )  # fmt: skip


def test_taste_is_learned_by_a_product():
    train, test = taste_columns(1500, 0), taste_columns(300, 1)
    test = replace(test, items=train.items, users=train.users)
    sizes = EncoderSizes(width=16, layers=0, heads=2, dropout=0.0, id_dropout=0.0, user_ids=True)
    losses = {}
    for matched in (True, False):
        torch.manual_seed(0)
        model = ListReward(spec_of(train), sizes, train.kinds, [1.0], list_layers=0, relations=0)
        if not matched:
            for layer in (model.match, model.encoder.match):
                torch.nn.init.zeros_(layer.weight).requires_grad_(False)
        losses[matched] = fitted_loss(model, train, test, epochs=6, lr=1e-2)
    assert losses[True] < losses[False] - 0.05


def shown_loss(model: ListReward, batch: Batch) -> Tensor:
    lists = batch.shown.unsqueeze(1)
    return model.loss(batch, lists, batch.feedback.unsqueeze(1), lists >= 0)


def fitted_loss(
    model: ListReward, train: EncodedRequests, test: EncodedRequests, epochs: int, lr: float
) -> float:
    """Loss on the shown lists of test after fitting by Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        for batch in train.batches(64, seed=epoch):
            optimizer.zero_grad()
            shown_loss(model, batch).backward()
            optimizer.step()
    with torch.no_grad():
        return float(shown_loss(model.eval(), test.batch(slice(None))))
