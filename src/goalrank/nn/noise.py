"""Sampling noise that depends on the request and a salt, not on other requests of the batch.

A global generator would give a request other lists in another batch. Here the noise is a hash of
(salt, request key, list, step, item), so that a request with the same salt gets the same lists in
any batch, with any padding and any order of the candidates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

# SplitMix64 constants as signed 64-bit integers (torch has no unsigned 64-bit arithmetic).
_GAMMA = -7046029254386353131
_M1 = -4658895280553007687
_M2 = -7723592293110705685


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = z + _GAMMA
    z = (z ^ _shift(z, 30)) * _M1
    z = (z ^ _shift(z, 27)) * _M2
    return z ^ _shift(z, 31)


def request_salt(key: Tensor, rng: torch.Generator) -> Tensor:
    """Mix one draw from a generator with the key of each request.

    Args:
        key: [B] int64, `Batch.key`.
        rng: source of randomness; it advances by one draw for any B.

    Returns:
        [B] int64 salts for `uniform` and `gumbel`.
    """
    salt = torch.randint(-(2**62), 2**62, (1,), generator=rng, device=rng.device)
    return _mix(key ^ salt.to(key.device))


def uniform(
    salt: Tensor, items: Tensor, lists: int, step: int = 0, *, named: bool = False
) -> Tensor:
    """Uniform noise in (0, 1).

    Args:
        salt: [B] from `request_salt`.
        items: [B, N] a number per candidate (its item row; candidates with the same row still get
            different noise).
        lists: G.
        step: decoding step; another step gives other noise.
        named: whether `items` are already the result of `distinct`, computed once for all steps.

    Returns:
        [B, G, N] float32.
    """
    g = torch.arange(lists, device=salt.device)
    per_list = _mix(salt[:, None] ^ (g * 0x9E3779B1 + step * 0x85EBCA77 + 1))  # [B, G]
    names = items if named else distinct(items)
    z = per_list[:, :, None] ^ (names[:, None, :] * 0x2545F4914F6CDD1D)  # [B, G, N]
    # In place: these are the largest tensors of a step, and memory costs more than arithmetic.
    z.bitwise_xor_(_shift(z, 30)).mul_(_M1)
    z.bitwise_xor_(_shift(z, 27)).mul_(_M2)
    z.bitwise_right_shift_(41).bitwise_and_((1 << 23) - 1)
    # 23 bits: float32 represents them and the added half, which excludes 0 and 1.
    return z.to(torch.float32).add_(0.5).mul_(1.0 / (1 << 23))


def distinct(items: Tensor) -> Tensor:
    """Make the items of each row distinct: repeats get a number by their count of earlier ones.

    Args:
        items: [B, N] item rows.

    Returns:
        [B, N] int64.
    """
    ordered, order = items.sort(dim=-1, stable=True)
    index = torch.arange(items.shape[-1], device=items.device)
    same = nn.functional.pad(ordered[..., 1:] == ordered[..., :-1], (1, 0))
    first = index.expand_as(items).masked_fill(same, 0).cummax(-1).values
    return items.scatter_add(-1, order, (index - first) << 40)


def gumbel(
    salt: Tensor, items: Tensor, lists: int, step: int = 0, *, named: bool = False
) -> Tensor:
    """Standard Gumbel noise.

    Args:
        salt: [B] from `request_salt`.
        items: [B, N], as in `uniform`.
        lists: G.
        step: decoding step; another step gives other noise.
        named: as in `uniform`.

    Returns:
        [B, G, N] float32.
    """
    return uniform(salt, items, lists, step, named=named).log_().neg_().log_().neg_()


def mixed_seed(*parts: int | str) -> int:
    """Seed for random draws that depends on all of its parts and on nothing else.

    Args:
        *parts: numbers (at least 0) or texts.
    """
    words = [b for p in parts for b in (p.encode() if isinstance(p, str) else [p])]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
