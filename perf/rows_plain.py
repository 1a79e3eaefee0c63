"""Times of PRM, compared with a plain PRM made of `torch.nn.TransformerEncoder`.

Both have width 64, one layer and four heads, and see the same batches: 50 candidates with a score
and four features. Ours reads the history too. Batches are made beforehand. The clock counts the
time of this process alone, so that other load disturbs less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from goalrank.compute import keep_freed_memory
from goalrank.requests import Batch
from plain_prm import PlainPRM
from timing import Compared, Work, compare
from workloads import Models, Sizes, make_models, prm_task, spec_of

TRAINING_BATCH = 64
SCORED = ((256, 1.2, 2), (1, 1.5, 50))  # batch, ratio to reach, calls per measurement


def against_plain(history: int, pairs: int) -> Iterator[tuple[str, float, Compared]]:
    """Measure how many times as long the plain model takes as ours.

    Args:
        history: H, which ours reads and the plain model does not.
        pairs: number of pairs.

    Yields:
        Name, ratio to reach, and result of each comparison.
    """
    keep_freed_memory()  # as in training; here it helps both
    models = make_models(Sizes(width=64, layers=1, history=history, features=4))
    torch.manual_seed(0)
    plain = PlainPRM(spec_of(models.columns), width=64, layers=1, heads=4)
    yield f"training step, B {TRAINING_BATCH}", 1.2, _training(models, plain, pairs)
    plain.eval()
    models.prm.eval()
    for batch, least, calls in SCORED:
        yield f"scoring, batch {batch}", least, _scoring(models, plain, batch, pairs, calls)


def _training(models: Models, plain: PlainPRM, pairs: int) -> Compared:
    batches = [models.columns.batch(rows) for rows in models.columns.order(TRAINING_BATCH)]
    task, parameters = prm_task(models), list(plain.parameters())
    ours = _step(
        models.prm, task.configure_optimizers()["optimizer"], batches,
        lambda batch: models.prm.loss(batch, models.sizes.slots), clip=task.loop.clip,
    )  # fmt: skip
    theirs = _step(plain, torch.optim.Adam(parameters, lr=1e-3), batches, plain.loss)
    repeats = {"plain": 4, "prm": 4}
    return compare(("plain", theirs), ("prm", ours), pairs, warm=4, repeats=repeats,
                   clock=time.process_time)  # fmt: skip


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[Batch],
    loss: Callable[[Batch], Tensor],
    clip: float = 0.0,
) -> Work:
    """A function that runs one optimiser step on the next batch, each model its own way."""
    count = iter(range(10**9))
    model.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(batches[next(count) % len(batches)]).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    return step


def _scoring(models: Models, plain: PlainPRM, batch: int, pairs: int, calls: int) -> Compared:
    rows = models.columns.batch(slice(0, batch))
    with torch.inference_mode():
        return compare(
            ("plain", lambda: plain(rows)), ("prm", lambda: models.prm.scores(rows)), pairs,
            warm=5, repeats={"plain": calls, "prm": calls}, clock=time.process_time,
        )  # fmt: skip
