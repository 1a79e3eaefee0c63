"""Processor time of each stage of PRM: a training step, and scoring at two batch sizes.

    python perf/prm_stages.py             # milliseconds per stage, as a Markdown table

Each stage's time leaves out that of the stages inside it, so that a column adds up to its total.
Sizes are those of `rows_plain.py`: width 64, one layer, 50 candidates, 20 events.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from goalrank.nn import Attention
from timing import Work
from workloads import Models, Sizes, make_models, prm_task

ROUNDS = 30


class Stages:
    """Milliseconds of each stage, by name; `inside` holds those of stages within the open ones."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = defaultdict(float)
        self.inside: list[float] = []

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed as a stage.

        Args:
            name: of the stage.
            work: the function.
        """

        def run(*args: Any, **kwargs: Any) -> Any:
            self.inside.append(0.0)
            start = time.process_time()
            out = work(*args, **kwargs)
            spent = (time.process_time() - start) * 1e3
            self.ms[name] += spent - self.inside.pop()
            if self.inside:
                self.inside[-1] += spent
            return out

        return run


def watch(models: Models, stages: Stages) -> None:
    """Time the parts of a PRM as stages.

    Args:
        models: their PRM is watched from now on.
        stages: gets the times.
    """
    prm, encoder = models.prm, models.prm.encoder
    parts: list[tuple[str, Any, str]] = [
        ("items, users: embedding", encoder.items, "forward"),
        ("items, users: embedding", encoder.users, "forward"),
        ("features", encoder.features, "forward"),
        *([("features", encoder.plain, "forward")] if encoder.plain is not None else []),
        ("history", encoder, "_history"),
        ("feed-forward network", encoder.blocks[0].feed_forward, "forward"),
        ("head", prm.head, "forward"),
        ("norms, sums and the rest of the encoder", encoder, "forward"),
        ("positions and the rest of the scores", prm, "scores"),
        ("loss", prm, "loss"),
    ]
    for attention in (encoder.cross, encoder.blocks[0].attention):
        assert isinstance(attention, Attention)
        parts += [("attention", attention, name) for name in ("keys_values", "attend")]
    for stage, owner, name in parts:
        setattr(owner, name, stages.timed(stage, getattr(owner, name)))


def measured(work: Work, stages: Stages, calls: int) -> dict[str, float]:
    """Median milliseconds per call of each stage.

    Args:
        work: one call.
        stages: of the watched models.
        calls: per round.
    """
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS + 3):
        stages.ms.clear()
        for _ in range(calls):
            work()
        rounds.append({name: ms / calls for name, ms in stages.ms.items()})
    names = dict.fromkeys(name for each in rounds for name in each)
    return {name: statistics.median(each.get(name, 0.0) for each in rounds[3:]) for name in names}


def training(models: Models, stages: Stages) -> Work:
    """One training step of PRM.

    Args:
        models: with the watched PRM.
        stages: gets the times of what is not part of the PRM.
    """
    task, prm = prm_task(models), models.prm.train()
    optimizer = task.configure_optimizers()["optimizer"]
    order = [rows for rows in models.columns.order(64, seed=0) if len(rows) == 64]
    count = iter(range(10**9))
    batch = stages.timed("batch", models.columns.batch)
    backward = stages.timed("backward", torch.Tensor.backward)
    clip = stages.timed("clipping", torch.nn.utils.clip_grad_norm_)
    update = stages.timed("optimiser", optimizer.step)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(prm.loss(batch(order[next(count) % len(order)]), models.sizes.slots))
        clip(prm.parameters(), 1.0)
        update()

    return step


def main() -> None:
    """Measure the three columns and print them."""
    torch.set_num_threads(1)
    columns: dict[str, dict[str, float]] = {}
    for name, size, calls in (("scoring, 1", 1, 20), ("scoring, 256", 256, 1)):
        models, stages = make_models(Sizes(width=64, layers=1, history=20, features=4)), Stages()
        watch(models, stages)
        rows = models.columns.batch(slice(0, size))
        with torch.inference_mode():
            columns[name] = measured(lambda m=models, r=rows: m.prm.scores(r), stages, calls)  # type: ignore[misc]
    models, stages = make_models(Sizes(width=64, layers=1, history=20, features=4)), Stages()
    watch(models, stages)
    columns["training step, 64"] = measured(training(models, stages), stages, 2)
    print("| stage |", " | ".join(columns), "|")
    for stage in dict.fromkeys(name for each in columns.values() for name in each):
        cells = [f"{each[stage]:.3g}" if stage in each else "" for each in columns.values()]
        print(f"| {stage} |", " | ".join(cells), "|")
    print("| total |", " | ".join(f"{sum(each.values()):.3g}" for each in columns.values()), "|")


if __name__ == "__main__":
    main()
