"""Changed batches and enumerated lists: what laws of rankers and rewards are checked on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from goalrank.requests import Batch, EntityTable

Model = TypeVar("Model", bound=nn.Module)
Sizes = TypeVar("Sizes")

_CANDIDATE = (
    "candidates",
    "candidate_mask",
    "candidate_score",
    "candidate_features",
    "relevance",
    "observed",
)
_HISTORY = ("history", "history_mask", "history_feedback", "history_age")


def shake(module: nn.Module, seed: int = 0, size: float = 0.3) -> None:
    """Move every parameter by random numbers, so that a fresh model prefers some lists."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=rng))


def fresh_model(make: Callable[[Sizes], Model], sizes: Sizes, seed: int = 0) -> Model:
    """Make a model in evaluation mode, with weights that matter; torch's own generator stays."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = make(sizes)
    shake(model, seed)
    return model.eval()


def all_lists(n: int, slots: int) -> Tensor:
    """List every order [1, P, L] of min(L, n) of n candidates."""
    short = min(slots, n)
    lists = torch.tensor(list(itertools.permutations(range(n), short)))
    return nn.functional.pad(lists, (0, slots - short), value=-1).unsqueeze(0)


def permuted(batch: Batch, order: Tensor) -> Batch:
    """Reorder the candidates: candidate m of the new batch is candidate order[m] of the old one."""
    changed: dict[str, Any] = {name: getattr(batch, name)[:, order] for name in _CANDIDATE}
    place = torch.cat([order.argsort(), torch.tensor([-1])])
    return replace(batch, **changed, shown=place[batch.shown])


def padded(batch: Batch, candidates: int = 0, history: int = 0) -> Batch:
    """Add padding to candidates and histories, with wrong numbers that must not be read."""
    changed: dict[str, Any] = {}
    for names, more in ((_CANDIDATE, candidates), (_HISTORY, history)):
        for name in names:
            value = getattr(batch, name)
            wrong = 0 if value.dtype in (torch.bool, torch.int64) else 3.0
            shape = (value.shape[0], more, *value.shape[2:])
            changed[name] = torch.cat([value, torch.full(shape, wrong, dtype=value.dtype)], 1)
    return replace(batch, **changed)


def blocked(batch: Batch, at: int) -> Batch:
    """Forbid candidate `at` in every request."""
    mask = batch.candidate_mask.clone()
    mask[:, at] = False
    return replace(batch, candidate_mask=mask)


def doubled(batch: Batch) -> Batch:
    """Give the same batch in float64."""

    def wide(value: Any) -> Any:
        if isinstance(value, EntityTable):
            return EntityTable(*(wide(getattr(value, f.name)) for f in fields(value)))
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.double()
        return value

    return replace(batch, **{f.name: wide(getattr(batch, f.name)) for f in fields(batch)})


def with_unknown(batch: Batch) -> Batch:
    """Give every request two unknown candidates, an unknown user and an unknown history.

    The first candidate's id is in a bucket that unknown ids share. The second candidate and the
    items of the history also have their own features.
    """
    known = len(batch.items)
    candidates = batch.candidates.clone()
    candidates[:, 0] = known - 1
    candidates[:, 1] = known
    return replace(
        batch,
        items=_longer(batch.items, 2),
        candidates=candidates,
        history=batch.history.masked_fill(batch.history_mask, known + 1),
        user=torch.full_like(batch.user, len(batch.users) - 1),
    )


def _longer(table: EntityTable, rows: int) -> EntityTable:
    """Add rows that share the ids' last bucket but have their own features."""
    bucket = torch.full((rows,), int(table.bucket_row.max()))
    generator = torch.Generator().manual_seed(7)
    numeric = torch.randn(rows, table.numeric.shape[1], generator=generator)
    return EntityTable(
        torch.cat([table.id_row, bucket]),
        torch.cat([table.bucket_row, bucket]),
        torch.cat([table.numeric, numeric]),
        torch.cat([table.category, table.category[1 : rows + 1]]),
        torch.cat([table.category_weight, table.category_weight[1 : rows + 1]]),
    )
