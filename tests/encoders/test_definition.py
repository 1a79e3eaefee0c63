"""The encoder computes its definition, written out plainly, with the same weights."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, EntityEmbedding, RequestEncoder
from goalrank.nn import Attention
from goalrank.rankers import PRM
from goalrank.requests import Batch, EntityTable
from tests.rankers.kit import SMALL, padded, rich_columns, shake, spec_of

COLUMNS = rich_columns(6, 6, seed=8)


def embedded(model: EntityEmbedding, table: EntityTable, rows: Tensor) -> Tensor:
    out = torch.zeros(*rows.shape, model.width)
    if model.ids is not None:
        out = out + model.ids.weight[table.id_row[rows]]
    if model.numeric is not None:
        out = out + model.numeric(table.numeric[rows].clamp(-8, 8))
    if model.category is not None and model.category_out is not None:
        bags = model.category.weight[table.category[rows]] * table.category_weight[rows][..., None]
        out = out + model.category_out(bags.sum(-2))
    return out


def attended(model: Attention, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
    b, d = len(x), x.shape[-1]

    def heads(t: Tensor) -> Tensor:
        return t.view(b, -1, model.heads, d // model.heads)

    k, v = model.key_value(memory).chunk(2, -1)
    logits = torch.einsum("bnhd,bmhd->bhnm", heads(model.query(x)), heads(k))
    logits = (logits / (d // model.heads) ** 0.5).masked_fill(~mask[:, None, None, :], -torch.inf)
    out: Tensor = model.out(
        torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1), heads(v)).flatten(2)
    )
    return out


def plain_numbers(batch: Batch) -> Tensor:
    x = torch.cat([batch.candidate_features, batch.candidate_score[..., None]], -1)
    x = torch.cat([x, batch.items.numeric[batch.candidates]], -1).clamp(-8, 8)
    out = torch.zeros(*x.shape[:2], 3 * x.shape[2])
    for b in range(len(x)):
        real = batch.candidate_mask[b]
        mine = x[b][real]
        relative = (mine - mine.mean(0)) / (mine.var(0, correction=0) + 1e-4).sqrt()
        below = (mine[None] < mine[:, None]).sum(1) + (mine[None] == mine[:, None]).sum(1) / 2
        out[b][real] = torch.cat([mine, relative, below / len(mine) - 0.5], -1)
    return out


def event_numbers(batch: Batch) -> Tensor:
    """Feedback, age, place from the newest, and gap to the next newer event, event by event."""
    out = torch.zeros(*batch.history.shape, 4)
    for b in range(batch.size):
        count = int(batch.history_mask[b].sum())
        hours = [math.expm1(age) for age in batch.history_age[b, :count].tolist()] + [0.0]
        for h in range(count):
            out[b, h, 0] = batch.history_feedback[b, h]
            out[b, h, 1] = batch.history_age[b, h]
            out[b, h, 2] = math.log(count - h)
            out[b, h, 3] = math.log1p(max(hours[h] - hours[h + 1], 0.0))
    return out


def encoded(model: RequestEncoder, batch: Batch, extra: Tensor | None) -> Tensor:
    b = batch.size
    items = embedded(model.items, batch.items, batch.candidates)
    event = F.linear(event_numbers(batch), model.event.weight, model.event.bias)
    history = embedded(model.items, batch.items, batch.history) + event
    history = model.norm_history(torch.cat([model.no_event.expand(b, -1, -1), history], 1))
    mask = torch.cat([torch.ones(b, 1, dtype=torch.bool), batch.history_mask], 1)
    weight = model.pool(history).squeeze(-1).masked_fill(~mask, -torch.inf).softmax(-1)
    pooled = (weight[..., None] * history).sum(1)
    context = model.context(pooled + embedded(model.users, batch.users, batch.user))
    x = items + model.match(model.taste(context)[:, None, :] * items)
    if model.plain is not None:
        x = x + model.plain(plain_numbers(batch))
    x = x + attended(model.cross, model.norm_items(x), history, mask)
    x = x + model.mix(context)[:, None, :]
    x = x if extra is None else x + extra
    for block in model.blocks:
        y = block.norm1(x)  # type: ignore[operator]
        x = x + attended(block.attention, y, y, batch.candidate_mask)  # type: ignore[arg-type]
        ff = block.feed_forward
        hidden = F.gelu(ff.up(block.norm2(x)), approximate="tanh")  # type: ignore[operator, union-attr]
        x = x + ff.down(hidden)  # type: ignore[operator, union-attr]
    out: Tensor = model.out(x)
    return out


def gradients(model: nn.Module, out: Tensor, weight: Tensor) -> list[Tensor]:
    grads = torch.autograd.grad((out * weight).sum(), list(model.parameters()), allow_unused=True)
    return [torch.zeros(()) if g is None else g for g in grads]


@pytest.mark.parametrize("wide", [0, 40], ids=["short", "long"])
@pytest.mark.parametrize(
    "sizes", [SMALL, replace(SMALL, layers=0), replace(SMALL, user_ids=True)],
    ids=["plain", "alone", "users"],
)  # fmt: skip
def test_values_and_gradients_are_those_of_the_definition(sizes: EncoderSizes, wide: int):
    torch.manual_seed(0)
    model = RequestEncoder(spec_of(COLUMNS), sizes).eval()
    shake(model, size=0.2)
    batch = padded(COLUMNS.batch(slice(None)), wide, wide)
    real = batch.candidate_mask
    extra = torch.randn(*batch.candidates.shape, sizes.width)
    got, want = model(batch, extra).candidates[real], encoded(model, batch, extra)[real]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(model(batch, extra).candidates[real], want, rtol=1e-4, atol=1e-4)
    weight = torch.randn_like(want)
    pairs = zip(gradients(model, got, weight), gradients(model, want, weight), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_prm_adds_the_vector_of_the_retrievers_rank():
    torch.manual_seed(0)
    model = PRM(spec_of(COLUMNS), SMALL).eval()
    shake(model, size=0.2)
    batch = COLUMNS.batch(slice(None))
    real, score = batch.candidate_mask, batch.candidate_score
    better = (score[:, None, :] > score[:, :, None]) & real[:, None, :]
    assert model.positions is not None
    out = encoded(model.encoder, batch, model.positions.weight[better.sum(-1)])
    want = (model.head(out) + model.wide(batch)).squeeze(-1)
    torch.testing.assert_close(model.scores(batch)[real], want[real], rtol=1e-4, atol=1e-4)
