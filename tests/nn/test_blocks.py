"""Attention, dropout, row selection."""

from __future__ import annotations

import math

import pytest
import torch

from goalrank.nn import Attention, Block, InducedBlock, at_least_single, mlp, take_rows
from goalrank.nn.dropout import dropout


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_attention_equals_its_formula():
    layer = Attention(8, 2).eval()
    x, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]]).bool()
    key, value = layer.key_value(memory).chunk(2, -1)
    query = layer.query(x)
    want = torch.empty(2, 3, 8)
    for b in range(2):
        for i in range(3):
            for h in range(2):
                part = slice(4 * h, 4 * h + 4)
                scores = key[b, mask[b], part] @ query[b, i, part] / math.sqrt(4)
                want[b, i, part] = scores.softmax(0) @ value[b, mask[b], part]
    torch.testing.assert_close(layer(x, memory, mask), layer.out(want))


@pytest.mark.parametrize("block", [Block(8, 2), InducedBlock(8, 2, 3)])
def test_blocks_ignore_padding_and_follow_permutations(block):
    block.eval()
    x = torch.randn(2, 5, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    out = block(x, mask)
    rubbish = torch.where(mask[..., None], x, torch.tensor(9.0))
    torch.testing.assert_close(block(rubbish, mask)[mask], out[mask])
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(block(x[:, order], mask[:, order]), out[:, order])
    torch.testing.assert_close(block(x[1:, :3], mask[1:, :3]), out[1:, :3])


def test_causal_block_sees_no_later_position():
    block = Block(8, 2).eval()
    x = torch.randn(1, 5, 8)
    changed = x.clone()
    changed[:, 3:] *= -2
    a, b = block(x, causal=True), block(changed, causal=True)
    torch.testing.assert_close(a[:, :3], b[:, :3])
    assert not torch.allclose(a[:, 3:], b[:, 3:])
    assert not torch.allclose(block(x)[:, :3], block(changed)[:, :3])


def test_dropout_keeps_the_mean_and_the_share():
    x = torch.ones(400, 251)
    out = dropout(x, 0.25, True)
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    assert len(out.unique()) == 2
    assert dropout(x, 0.25, False) is x
    assert dropout(x, 0.0, True) is x


def test_dropout_is_reproducible_and_passes_gradients_where_it_kept():
    x = torch.ones(64, requires_grad=True)
    torch.manual_seed(3)
    first = dropout(x, 0.5, True)
    first.sum().backward()
    torch.testing.assert_close(x.grad, first.detach())
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5, True), first)
    assert not torch.equal(dropout(x, 0.5, True), first)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_what_its_random_bytes_say(p, dtype):
    x = torch.randn(3, 7, 5).to(dtype)
    torch.manual_seed(3)
    out = dropout(x, p, True)
    torch.manual_seed(3)
    draws = torch.empty(14, dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)
    limit = max(round(p * 256), 1)
    keep = draws[: x.numel()].view(x.shape) >= limit
    assert torch.equal(out, x * (keep.to(dtype) * (256 / (256 - limit))))


def test_take_rows_and_its_gradient():
    values = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    at = torch.randint(5, (3, 7))
    want = torch.stack([values[b, at[b]] for b in range(3)])
    assert torch.equal(take_rows(values, at), want)
    assert torch.autograd.gradcheck(lambda v: take_rows(v, at), (values,))


@pytest.mark.parametrize("rows", [4, 9000])
def test_mlp_is_its_layers_in_turn_and_keeps_their_names(rows):
    net = mlp(8, 16, 16, 2, dropout=0.5).eval()
    assert list(net.state_dict()) == [
        f"{i}.{kind}" for i in (0, 3, 6) for kind in ("weight", "bias")
    ]
    x = want = torch.randn(rows, 8)
    for i, layer in enumerate(net):
        want = layer(want)
        want = torch.nn.functional.gelu(want, approximate="tanh") if i < 2 else want
    torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-5)
    assert not torch.equal(net.train()(x), net(x))


def test_mlp_shapes_and_precision():
    net = mlp(3, 5, 2)
    assert net(torch.randn(4, 6, 3)).shape == (4, 6, 2)
    linear = mlp(3, 2)
    assert len(linear) == 1
    assert at_least_single(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_single(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
