"""Times of training steps, compared with the authors' schedule and with PRM."""

from __future__ import annotations

import torch

import authors_schedule
from goalrank.requests import Batch
from timing import Compared, compare
from workloads import Sizes, group_task, make_models, make_step, prm_task


def against_authors(batch: int, pairs: int) -> Compared:
    """Compare a step of the authors' schedule with ours: N 50, L 6, G 20, d 128, 2 layers.

    Args:
        batch: B.
        pairs: number of pairs.
    """
    sizes = Sizes(batch=batch)
    models = make_models(sizes)
    ours = make_step(group_task(models), models.columns, batch)
    rng = torch.Generator().manual_seed(0)

    def loss(chosen: Batch) -> torch.Tensor:
        return authors_schedule.loss(
            models.generator, models.reward, chosen, sizes.slots, sizes.lists, rng
        )

    theirs = make_step(group_task(models), models.columns, batch, loss)
    ours()  # theirs takes too long for more warm-up
    return compare(("authors", theirs), ("goalrank", ours), pairs, warm=1, repeats={"goalrank": 9})


def against_prm(batch: int, history: int, pairs: int) -> Compared:
    """Compare GoalRank's step, with sampling and reward, with PRM's.

    Args:
        batch: B.
        history: H.
        pairs: number of pairs.
    """
    models = make_models(Sizes(batch=batch, history=history))
    ours = make_step(group_task(models), models.columns, batch)
    prm = make_step(prm_task(models), models.columns, batch)
    return compare(("goalrank", ours), ("prm", prm), pairs, warm=3)
