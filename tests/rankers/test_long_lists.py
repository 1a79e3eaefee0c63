"""Many candidates and long lists: chunks change nothing, and one request alone decodes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from goalrank.rankers import Generator
from goalrank.rankers.goalrank.pointer_decoder import Memory
from goalrank.rankers.goalrank.single_request import is_single_request
from tests.rankers.kit import SMALL, padded, permuted, rich_columns, shake, spec_of

COLUMNS = rich_columns(4, 40, seed=4)


def generator(inducing: int = 0, dtype: torch.dtype = torch.float32) -> Generator:
    torch.manual_seed(0)
    sizes = replace(SMALL, layers=2, inducing=inducing)
    model = Generator(spec_of(COLUMNS), sizes, slots=6)
    shake(model, size=0.2)
    return model.eval().to(dtype)


def parts(memory: Memory) -> list[torch.Tensor]:
    return [memory.candidates, memory.start, memory.bias]


@torch.no_grad()
@pytest.mark.parametrize("inducing", [0, 5])
def test_chunked_encoding_is_the_encoding(inducing):
    model = generator(inducing)
    batch = padded(COLUMNS.batch(slice(None)), 3)
    whole, lists = model.encode(batch), model.rank(batch, 30)
    model.encoder.chunk_rows = 20  # five candidates of each request
    for want, got in zip(parts(whole), parts(model.encode(batch))):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.rank(batch, 30), lists)


@torch.no_grad()
@pytest.mark.parametrize("inducing", [0, 5])
def test_chunked_laws_of_padding_and_order(inducing):
    model = generator(inducing)
    model.encoder.chunk_rows = 20
    batch = COLUMNS.batch(slice(None))
    n = batch.candidates.shape[1]
    best = model.rank(batch, 20)
    assert torch.equal(model.rank(padded(batch, 9, 2), 20), best)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    back = torch.cat([order, torch.tensor([-1])])
    assert torch.equal(back[model.rank(permuted(batch, order), 20)], best)


@pytest.mark.parametrize("inducing", [0, 5])
def test_chunked_training_has_the_same_gradient(inducing):
    batch = COLUMNS.batch(slice(None))
    found = []
    for rows in (10**6, 20):
        model = generator(inducing)
        model.encoder.chunk_rows = rows
        model.loss(batch, 12).backward()
        found.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, rtol=1e-3, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("slots", [1, 5, 12, 60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_request_alone_decodes_as_in_a_batch(slots, dtype):
    model = generator()
    for row in range(len(COLUMNS)):
        batch = padded(COLUMNS.batch([row]), 2)
        memory = model.encode(batch)
        memory = type(memory)(*(x.to(dtype) for x in parts(memory)))
        model.decoder.to(dtype)
        assert is_single_request(memory)
        alone = model.decode(memory, slots)
        steps = model.decode(memory, slots, 1, lambda logits, _: logits)
        assert torch.equal(alone, steps)
        assert (alone >= 0).sum() == min(slots, int(batch.candidate_mask.sum()))
        model.decoder.float()


@torch.no_grad()
def test_single_request_decoding_leaves_the_state_unchanged():
    model = generator()
    memory = model.encode(COLUMNS.batch([0]))
    before = [x.clone() for x in parts(memory)]
    first = model.decode(memory, 8)
    assert all(torch.equal(a, b) for a, b in zip(parts(memory), before))
    assert torch.equal(model.decode(memory, 8), first)


@torch.no_grad()
def test_two_thousand_candidates_and_fifty_slots():
    """Real sizes: lists are valid, and batch neighbours do not matter."""
    columns = rich_columns(2, 2000, seed=1, items=2500)
    model = Generator(spec_of(columns), replace(SMALL, inducing=8), slots=50).eval()
    model.encoder.chunk_rows = 1000
    batch = columns.batch(slice(None))
    lists = model.rank(batch, 50)
    assert (lists.sort(-1).values.diff(dim=-1) > 0).all()
    alone = torch.cat([model.rank(columns.batch([row]), 50) for row in range(2)])
    assert torch.equal(alone, lists)
    log_prob = model.log_prob(batch, lists.unsqueeze(1))
    assert log_prob.isfinite().all()
