"""Training speed of GoalRank and PRM at equal width: seconds per epoch and requests per second.

    GOALRANK_DATA=... python perf/train_step.py            # ML-1M
    python perf/train_step.py --world                       # a simulator, no data needed

Both models have the same request encoder (width, layers, heads). A GoalRank step encodes the
batch, draws a group of lists, computes their rewards and minimises eq. 5; a PRM step minimises its
softmax cross-entropy. Steps of the two alternate and the medians are compared, so that the ratio
holds on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goalrank.logs import data_root, import_log
from goalrank.rankers import RankerConfig, build_ranker, parameter_count
from goalrank.requests import EncodedRequests, Encoder
from goalrank.training import (
    CachedScores,
    GroupBuilder,
    GroupTask,
    LoopConfig,
    ObjectiveConfig,
    SupervisedTask,
    Task,
    build_config,
    build_reward,
)
from goalrank.worlds import World, WorldConfig


def load(world: bool, requests: int) -> tuple[Encoder, EncodedRequests]:
    """Load encoded training requests.

    Args:
        world: take them from a simulator; False takes ML-1M.
        requests: number of requests of the simulator.
    """
    if world:
        table = World(WorldConfig(items=3000, candidates=50, slots=6)).sample(requests, seed=1)
    else:
        table = import_log("movielens", data_root("ml-1m")).train
    encoder = Encoder.fit(table)
    return encoder, encoder.encode(table)


def make_step(task: Task[Any], columns: EncodedRequests, batch_size: int) -> Callable[[], None]:
    """Make a function that runs one optimiser step of a task on the next batch.

    Args:
        task: the task.
        columns: training requests.
        batch_size: requests per batch.
    """
    task.log = task.log_dict = lambda *_, **__: None  # type: ignore[assignment,method-assign]
    optimizer = task.configure_optimizers()["optimizer"]
    order = columns.order(batch_size, seed=0)
    state = {"step": 0}
    task.train()

    def step() -> None:
        batch = columns.batch(order[state["step"] % len(order)])
        state["step"] += 1
        optimizer.zero_grad(set_to_none=True)
        loss = task.training_step(batch, state["step"])
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimizer.step()

    return step


def tasks(
    encoder: Encoder, columns: EncodedRequests, args: argparse.Namespace
) -> dict[str, Task[Any]]:
    """Make the two tasks with equal encoder sizes.

    Args:
        encoder: of the requests.
        columns: training requests.
        args: of the command line.
    """
    size = {"width": args.width, "layers": args.layers, "heads": 4}
    loop = LoopConfig(batch_size=args.batch, lr=1e-3)
    spec = encoder.spec
    torch.manual_seed(0)
    prm = build_ranker(spec, RankerConfig(name="prm", **size))
    generator = build_ranker(spec, RankerConfig(name="goalrank", **size))
    recipe = build_config({"reward": {"width": args.reward_width}})
    reward = build_reward(spec, recipe.reward, columns, 6)
    groups = GroupBuilder(recipe.group, 6, [CachedScores(prm.eval(), columns)])
    return {
        "prm": SupervisedTask(prm, loop, 0, 6),
        "goalrank": GroupTask(
            generator, loop, 0, reward=reward, groups=groups, objective=ObjectiveConfig()
        ),
    }


def measure(args: argparse.Namespace) -> dict[str, object]:
    """Measure the median seconds per step of each task, step by step in turn.

    Args:
        args: of the command line.
    """
    torch.set_num_threads(args.threads)
    encoder, columns = load(args.world, args.requests)
    made = tasks(encoder, columns, args)
    steps = {name: make_step(task, columns, args.batch) for name, task in made.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(args.steps + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if i >= 3:  # warm-up
                seconds[name].append(time.perf_counter() - start)
    out: dict[str, object] = {
        "requests": len(columns),
        "threads": args.threads,
        "batch": args.batch,
    }
    per_epoch = int(np.ceil(len(columns) / args.batch))
    for name, values in seconds.items():
        median = statistics.median(values)
        out[name] = {
            "parameters": parameter_count(made[name].model),
            "ms_per_step": round(median * 1e3, 2),
            "requests_per_second": round(args.batch / median, 1),
            "seconds_per_epoch": round(median * per_epoch, 1),
        }
    ratio = statistics.median(
        g / p for g, p in zip(seconds["goalrank"], seconds["prm"], strict=True)
    )
    out["goalrank_over_prm"] = round(ratio, 2)
    return out


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--world", action="store_true", help="a simulator instead of ML-1M")
    parser.add_argument(
        "--requests", type=int, default=4000, help="number of requests of the simulator"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--reward-width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
