"""Training steps against the authors' schedule and against PRM."""

from __future__ import annotations

import torch

import authors_schedule
from material import Sizes, group_task, make_models, prm_task, stepper
from timing import Compared, compare


def against_authors(batch: int, pairs: int) -> Compared:
    """Step of the authors' schedule over ours: N 50, L 6, G 20, d 128, 2 layers, same reward."""
    sizes = Sizes(batch=batch)
    models = make_models(sizes)
    ours = stepper(group_task(models), models.columns, batch)
    rng = torch.Generator().manual_seed(0)

    def loss(chosen: object) -> torch.Tensor:
        return authors_schedule.loss(
            models.generator, models.reward, chosen, sizes.slots, sizes.lists, rng
        )

    theirs = stepper(group_task(models), models.columns, batch, loss)
    ours()  # theirs is too long to warm up at length
    return compare(("authors", theirs), ("goalrank", ours), pairs, warm=1, repeats={"goalrank": 9})


def against_prm(batch: int, history: int, pairs: int) -> Compared:
    """GoalRank's step, sampling and reward included, over PRM's."""
    models = make_models(Sizes(batch=batch, history=history))
    ours = stepper(group_task(models), models.columns, batch)
    prm = stepper(prm_task(models), models.columns, batch)
    return compare(("goalrank", ours), ("prm", prm), pairs, warm=3)
