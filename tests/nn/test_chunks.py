"""A few candidates at a time: the same numbers, the same gradients, and less held at once."""

from __future__ import annotations

import pytest
import torch

from goalrank.nn import Block, InducedBlock, in_chunks


@pytest.mark.parametrize("rows", [1, 6, 9, 14, 21, 100])
def test_chunks_are_put_back_in_place(rows):
    x, y = torch.randn(3, 7, 4), torch.randn(3, 7, 2)
    sizes = []

    def work(a, b):
        sizes.append(a.shape[1])
        return torch.cat([a * 2, b], -1)

    with torch.no_grad():
        out = in_chunks(work, x, y, rows=rows)
    assert torch.equal(out, torch.cat([x * 2, y], -1))
    assert max(sizes) == min(max(rows // 3, 1), 7)
    assert sum(sizes) == 7


@pytest.mark.parametrize("make", [Block, lambda d, h: InducedBlock(d, h, 3)])
def test_a_chunked_block_equals_the_block(make):
    torch.manual_seed(0)
    block = make(8, 2)
    x, mask = torch.randn(2, 11, 8), torch.rand(2, 11) < 0.7
    mask[:, 0] = True
    results = []
    for rows in (1000, 6):
        leaf = x.clone().requires_grad_()
        out = block(leaf, mask, rows=rows)
        out[mask].square().sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(block(x, mask, rows=rows), out.detach())
        results.append((out.detach(), leaf.grad, *(p.grad.clone() for p in block.parameters())))
        block.zero_grad()
    for whole, cut in zip(*results):
        torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)


def test_a_chunked_block_attends_beyond_its_chunk():
    block = Block(8, 2).eval()
    x = torch.randn(1, 8, 8)
    far = x.clone()
    far[0, 7, 0] += 3
    with torch.no_grad():
        assert not torch.allclose(block(x, rows=2)[0, 0], block(far, rows=2)[0, 0])
