"""Requests to vectors: padding, order and neighbours do not matter; what is known does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from goalrank.encoders import EncoderSizes, EntityEmbedding, RequestEncoder
from goalrank.rankers import DNN
from goalrank.requests import Batch, EncodedRequests, EntityTable
from tests.rankers.kit import CATEGORIES, SMALL, padded, permuted, rich_columns, shake, spec_of
from tests.rankers.planted import SIZES, columns_of, fit, precision

COLUMNS = rich_columns(6, 6, seed=8)
VARIANTS = {
    "plain": SMALL,
    "alone": replace(SMALL, layers=0),
    "induced": replace(SMALL, inducing=3),
    "users": replace(SMALL, user_ids=True),
    "narrow": replace(SMALL, user_ids=True, id_width=4),
}
every = pytest.mark.parametrize("sizes", VARIANTS.values(), ids=VARIANTS)


def encoder(sizes: EncoderSizes) -> RequestEncoder:
    torch.manual_seed(0)
    model = RequestEncoder(spec_of(COLUMNS), sizes)
    shake(model, size=0.2)
    return model.eval()


def whole() -> Batch:
    return COLUMNS.batch(slice(None))


@every
@torch.no_grad()
def test_padding_neighbours_and_order(sizes):
    model, batch = encoder(sizes), whole()
    out = model(batch)
    real = batch.candidate_mask
    wide = model(padded(batch, 2, 3))
    torch.testing.assert_close(wide.candidates[:, :-2][real], out.candidates[real])
    torch.testing.assert_close(wide.context, out.context)
    for b in range(batch.size):
        one = model(COLUMNS.batch([b]))
        torch.testing.assert_close(one.candidates[0], out.candidates[b][real[b]])
        torch.testing.assert_close(one.context[0], out.context[b])
    order = torch.tensor([5, 0, 3, 1, 4, 2])
    moved = model(permuted(batch, order))
    torch.testing.assert_close(
        moved.candidates[real[:, order]], out.candidates[:, order][real[:, order]]
    )
    torch.testing.assert_close(moved.items, out.items[:, order])


def changed(batch: Batch, name: str) -> Batch:
    value = getattr(batch, name)
    if name in ("history", "candidates"):
        moved: dict[str, Any] = {name: torch.where(value > 0, value % 30 + 1, 0)}
        return replace(batch, **moved)
    if name == "user":
        return replace(batch, user=value % 10 + 1)
    return replace(batch, **{name: value + 0.5})


@pytest.mark.parametrize(
    "name",
    ["history", "history_feedback", "history_age", "candidates", "candidate_score",
     "candidate_features", "user"],
)  # fmt: skip
@torch.no_grad()
def test_every_input_matters(name):
    model, batch = encoder(SMALL), whole()
    if name.startswith("candidate_"):  # a shift of all would be standardised away
        value = getattr(batch, name).clone()
        value[:, 0] += 1.0
        other = replace(batch, **{name: value})
    else:
        other = changed(batch, name)
    has = batch.history_mask.any(-1) if name.startswith("history") else slice(None)
    assert not torch.allclose(model(batch).candidates[has], model(other).candidates[has])


@torch.no_grad()
def test_user_ids_count_only_when_asked_for():
    batch = whole()
    table = batch.users
    plain = EntityTable(
        table.id_row, table.bucket_row, table.numeric * 0, table.category * 0,
        table.category_weight * 0,
    )  # fmt: skip
    batch = replace(batch, users=plain)
    other = changed(batch, "user")
    without, with_ids = encoder(SMALL), encoder(VARIANTS["users"])
    torch.testing.assert_close(without(batch).context, without(other).context)
    assert not torch.allclose(with_ids(batch).context, with_ids(other).context)


@torch.no_grad()
def test_without_layers_candidates_are_independent():
    batch = whole()
    numbers = torch.zeros_like(batch.items.numeric)  # which are relative to the request
    batch = replace(batch, items=replace(batch.items, numeric=numbers))
    other = batch.candidates.clone()
    other[:, 0] = other[:, 0] % 30 + 1
    swapped = replace(batch, candidates=other)
    alone, together = encoder(VARIANTS["alone"]), encoder(SMALL)
    torch.testing.assert_close(alone(swapped).candidates[:, 1], alone(batch).candidates[:, 1])
    assert not torch.allclose(together(swapped).candidates[:, 1], together(batch).candidates[:, 1])


@torch.no_grad()
def test_selected_candidates_are_encoded_as_among_all():
    model, batch = encoder(VARIANTS["alone"]), whole()
    at = torch.tensor([[3, 0, 3, 2]]).expand(batch.size, -1)
    out, few = model(batch), model(batch, at=at)
    pick = at.unsqueeze(-1).expand(-1, -1, SMALL.width)
    torch.testing.assert_close(few.candidates, out.candidates.gather(1, pick))
    torch.testing.assert_close(few.items, out.items.gather(1, pick))
    torch.testing.assert_close(few.context, out.context)


def test_layers_between_candidates_need_all_of_them():
    with pytest.raises(ValueError, match="encodes all of them"):
        encoder(SMALL)(whole(), at=torch.zeros(len(COLUMNS), 1, dtype=torch.int64))


def embedding(**options: Any) -> EntityEmbedding:
    torch.manual_seed(0)
    items = COLUMNS.items
    return EntityEmbedding(
        len(items), items.numeric.shape[1], CATEGORIES, items.category.shape[1], 8, **options
    )


@torch.no_grad()
def test_embedding_is_the_sum_of_its_parts():
    model, items = embedding().eval(), COLUMNS.items
    rows = torch.tensor([[1, 4], [7, 0]])
    assert model.ids is not None
    assert model.numeric is not None
    assert model.category is not None
    assert model.category_out is not None
    bags = (model.category.weight[items.category] * items.category_weight[..., None]).sum(1)
    want = model.ids.weight[items.id_row] + model.numeric(items.numeric) + model.category_out(bags)
    torch.testing.assert_close(model(items, rows), want[rows])


@torch.no_grad()
def test_a_narrow_table_has_fewer_numbers_per_id():
    model, items = embedding(id_width=3).eval(), COLUMNS.items
    assert model.ids is not None
    assert model.ids_out is not None
    assert model.ids.weight.shape == (len(items), 3)
    rows = torch.arange(len(items))
    whole = model(items, rows)
    added = model.ids.weight[items.id_row] @ model.ids_out.weight.T
    model.ids.weight.zero_()
    torch.testing.assert_close(whole - model(items, rows), added)
    assert embedding(id_width=8).ids_out is None


@torch.no_grad()
def test_extreme_numbers_are_clamped():
    model, items = embedding().eval(), COLUMNS.items
    wild = replace(items, numeric=items.numeric.clone().fill_(1e30))
    cut = replace(items, numeric=items.numeric.clone().fill_(8.0))
    rows = torch.arange(4)
    torch.testing.assert_close(model(wild, rows), model(cut, rows))


@torch.no_grad()
def test_unknown_ids_share_their_bucket_but_not_their_features():
    model, items = embedding().eval(), COLUMNS.items
    last = len(items) - 1
    twin = replace(
        items,
        id_row=torch.cat([items.id_row, items.id_row[-1:]]),
        bucket_row=torch.cat([items.bucket_row, items.bucket_row[-1:]]),
        numeric=torch.cat([items.numeric, items.numeric[-1:]]),
        category=torch.cat([items.category, items.category[-1:]]),
        category_weight=torch.cat([items.category_weight, items.category_weight[-1:]]),
    )
    a, b = model(twin, torch.tensor([last, last + 1]))
    torch.testing.assert_close(a, b)
    twin.numeric[-1] += 1
    a, b = model(twin, torch.tensor([last, last + 1]))
    assert not torch.allclose(a, b)


@torch.no_grad()
def test_id_dropout_swaps_ids_for_their_bucket_in_training_only():
    model, items = embedding(id_dropout=0.3), COLUMNS.items
    rows = torch.full((4000,), 2)
    model.eval()
    own = model(items, rows[:1])
    bucket = model(replace(items, id_row=items.bucket_row), rows[:1])
    torch.testing.assert_close(model(items, rows), own.expand(4000, -1))
    out = model.train()(items, rows)
    is_own, is_bucket = (torch.isclose(out, want, atol=1e-6).all(-1) for want in (own, bucket))
    assert (is_own ^ is_bucket).all()
    assert float(is_bucket.float().mean()) == pytest.approx(0.3, abs=0.03)


def test_unknown_entities_are_zero():
    model = EntityEmbedding(0, 0, 1, 0, 8)
    ids = torch.zeros(3, dtype=torch.int64)
    bare = EntityTable(ids, ids.clone(), torch.zeros(3, 0), torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3, 0))  # fmt: skip
    assert torch.equal(model(bare, torch.tensor([[0, 2]])), torch.zeros(1, 2, 8))


def taste_world(requests: int, seed: int) -> EncodedRequests:
    """Items known by id alone; three of eight offered go best with what six met have in common."""
    rng, items = np.random.default_rng(seed), 120
    tastes = np.random.default_rng(9).normal(size=(items, 4))
    users = rng.normal(size=(requests, 4))
    pool = np.stack([rng.permutation(items)[:32] for _ in range(requests)])
    worth = (tastes[pool] * users[:, None]).sum(-1)
    met = np.take_along_axis(pool[:, 8:], np.argsort(-worth[:, 8:], 1)[:, :6], 1) + 1
    liked = worth[:, :8] >= np.sort(worth[:, :8], 1)[:, [-3]]
    none = np.zeros((items + 3, 0), np.float32)
    return columns_of(pool[:, :8] + 1, liked.astype(float), none, history=met)


def test_the_product_with_the_context_learns_preferences():
    train, test = taste_world(3000, 0), taste_world(400, 1)
    found = []
    for product in (True, False):
        torch.manual_seed(0)
        ranker = DNN(spec_of(train), SIZES)
        with torch.no_grad():
            assert ranker.encoder.items.ids is not None
            ranker.encoder.items.ids.weight *= 5  # less waiting until ids differ
        if not product:
            torch.nn.init.zeros_(ranker.encoder.match.weight).requires_grad_(False)
        found.append(precision(fit(ranker, train, 3, steps=400), test, 3))
    ours, control = found
    assert ours > 0.65
    assert ours > control + 0.05
