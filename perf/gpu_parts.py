"""Parts of `perf/gpu.py`: training steps, ranking, and points of the scaling grid.

Everything is the product's own: its default recipe, its trainer with the precision and the batch of
configs/scaling/gpu.toml, and its worlds. Weights of helpers are random, as times do not depend on
them.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode

from bench import ROOT
from device_speed import Clock, clock_of, percentile, product_rate, timed
from goalrank.rankers import Ranker, build_ranker
from goalrank.recipes import default_recipe
from goalrank.requests import EncodedRequests, Encoder, InputSpec
from goalrank.settings import merge
from goalrank.studies.common import module_parameters
from goalrank.studies.scaling import (
    ScalingSuite,
    build_scaling,
    load_scaling,
    plan_scaling,
    run_scaling,
)
from goalrank.training import FitConfig, Job, RunOptions, build_config, build_list_reward
from goalrank.worlds import World, WorldConfig

Found = dict[str, Any]
GRID = ROOT / "configs" / "scaling" / "gpu.toml"
FEWEST_STEPS = 3
CANDIDATES = 50


@dataclass(frozen=True)
class Setting:
    """Sizes of a run.

    Attributes:
        device: "cuda" or "cpu".
        ranker: size of the generator whose steps and lists are timed.
        batch: requests per training step.
        requests: of training.
        warm: steps that are not timed.
        steps: timed steps.
        rank_batch: requests per ranked batch.
        ranks: ranked batches, beside a tenth for warm-up.
        product: rows of the square matrices by which the device's bf16 speed is measured.
        points: size by name of each point of the scaling grid, small ones first.
        data: training requests of a point.
        test: test requests of a point.
        recipe: changes the recipe of the points.
    """

    device: str
    ranker: dict[str, int]
    batch: int
    requests: int
    warm: int
    steps: int
    rank_batch: int
    ranks: int
    product: int
    points: dict[str, dict[str, int]]
    data: int
    test: int
    recipe: dict[str, Any]


XL = {"width": 1024, "layers": 8, "heads": 16, "ratio": 4}  # of the preset
FULL = Setting(
    device="cuda", ranker=XL, batch=512, requests=8192, warm=10, steps=40, rank_batch=256,
    ranks=300, product=8192,
    points={
        "1e6": {"width": 160, "layers": 2, "heads": 4, "ratio": 2},
        "1e7": {"width": 384, "layers": 4, "heads": 8, "ratio": 4},
        "1e8": XL,
    },
    data=10_000, test=500, recipe={},
)  # fmt: skip
SMALLEST = {"width": 8, "layers": 1, "heads": 2, "ratio": 1}
SMOKE = Setting(
    device="cpu", ranker=SMALLEST, batch=8, requests=24, warm=1, steps=6, rank_batch=4, ranks=4,
    product=16, points={"1e6": SMALLEST, "1e7": SMALLEST, "1e8": SMALLEST}, data=24, test=4,
    recipe={"reward": {"width": 8, "heads": 2}},
)  # fmt: skip


class StepTimes(Callback):
    """Marks the end of every training step after the warm-up, without making the device wait.

    A step reaches from one mark to the next, so it holds all that the trainer does for it, also the
    making and moving of its batch.

    Args:
        clock: of the device.
        warm: steps before the first mark.
    """

    def __init__(self, clock: Clock, warm: int) -> None:
        self.clock, self.warm = clock, warm
        self.marks: list[Any] = []
        self.wall = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Mark the end of a step."""
        if trainer.global_step == self.warm:
            self.clock.wait()
            self.wall = -time.perf_counter()
        if trainer.global_step >= self.warm:
            self.marks.append(self.clock.mark())

    def on_train_epoch_end(self, *_: Any) -> None:
        """Wait for the last step, before a checkpoint is written."""
        self.clock.wait()
        self.wall += time.perf_counter()

    def seconds(self) -> list[float]:
        """Seconds of each timed step."""
        pairs = zip(self.marks[:-1], self.marks[1:])
        return [self.clock.seconds(start, end) for start, end in pairs]


class StepFlops(Callback):
    """Counts the operations of every training step after the warm-up: forward, backward and rest.

    Args:
        warm: steps that are not counted.
    """

    def __init__(self, warm: int) -> None:
        self.warm = warm
        self.flops: list[float] = []
        self._counter: FlopCounterMode | None = None

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Begin to count."""
        if trainer.global_step >= self.warm:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        """Keep what was counted."""
        if self._counter is not None:
            self.flops.append(float(self._counter.get_total_flops()))
        self._leave()

    def on_exception(self, *_: Any) -> None:
        """Count nothing more, so that later parts run without the counter."""
        self._leave()

    def _leave(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self._counter = None


@lru_cache(maxsize=1)
def world_requests(requests: int, history: int) -> tuple[InputSpec, EncodedRequests]:
    """Sample requests of 50 candidates from the grid's world, where lists have 6 slots.

    Args:
        requests: how many.
        history: events per request at most.
    """
    world = WorldConfig.load(ROOT / "configs" / "worlds" / "fatigue.toml")
    table = World(world.model_copy(update={"candidates": CANDIDATES})).sample(requests, seed=0)
    encoder = Encoder.fit(table, build_config({"encoder": {"history": history}}).encoder)
    return encoder.spec, encoder.encode(table)


def recipe_of(setting: Setting) -> FitConfig:
    """Make the default recipe with the size, precision and batch that are measured.

    Args:
        setting: sizes.
    """
    steps = setting.warm + setting.steps
    precision = load_scaling(GRID).recipe["training"]["precision"]
    loop = {"steps": steps, "validate_every": steps, "patience": 0, "precision": precision,
            "batch_size": setting.batch, "lr": 5e-4}  # fmt: skip
    return build_config(merge(default_recipe(), {"ranker": setting.ranker, "training": loop}))


def fit(
    setting: Setting, spec: InputSpec, columns: EncodedRequests, folder: Path,
    watch: Callback, limit: float,
) -> Ranker:  # fmt: skip
    """Fit a generator as a training job does, but for a reward with random weights.

    Args:
        setting: sizes.
        spec: input sizes.
        columns: training requests.
        folder: of the stage.
        watch: told of every step.
        limit: seconds after which the trainer stops.
    """
    accelerator = "gpu" if setting.device == "cuda" else "cpu"
    options = RunOptions(
        folder, progress=False, accelerator=accelerator, devices=1, callbacks=watch,
        max_seconds=limit,
    )  # fmt: skip
    job = Job(spec, columns, None, recipe_of(setting), options)
    torch.manual_seed(0)
    reward = build_list_reward(spec, job.config.reward, columns, job.config.ranker.slots).eval()
    return job.fit_generator(job.teacher(reward))


def training(setting: Setting, folder: Path, limit: float) -> Found:
    """Time training steps.

    A step learns from a group of lists or from a slot group, which cost differently. Which one is
    drawn from seed and step, so those of `operations` are the same steps.

    Args:
        setting: sizes.
        folder: for checkpoints.
        limit: seconds of the steps.

    Raises:
        RuntimeError: the time was enough for a few steps only.
    """
    spec, columns = world_requests(setting.requests, recipe_of(setting).encoder.history)
    times = StepTimes(clock_of(setting.device), setting.warm)
    ranker = fit(setting, spec, columns, folder, times, limit)
    memory = peak_memory(setting.device)
    seconds, parameters = times.seconds(), module_parameters({"it": ranker})
    if len(seconds) < FEWEST_STEPS:
        raise RuntimeError(
            f"{len(seconds)} steps were timed in {limit:.0f} s, at least {FEWEST_STEPS} are "
            f"needed; remedy: more time (option: --minutes) or a smaller batch (option: --batch)"
        )
    return {
        "parameters": parameters[0], "parameters_without_ids": parameters[1],
        "precision": recipe_of(setting).training.precision, "batch": setting.batch,
        "steps": len(seconds), "step_ms": [1e3 * each for each in seconds],
        "wall_ms_per_step": 1e3 * times.wall / len(seconds),
        "requests_per_second": setting.batch / statistics.fmean(seconds), "peak_memory_gb": memory,
    }  # fmt: skip


def operations(setting: Setting, folder: Path, limit: float) -> Found:
    """Count the operations of the steps that `training` times.

    Args:
        setting: sizes.
        folder: for checkpoints.
        limit: seconds of the steps.

    Raises:
        RuntimeError: the time was not enough for one step.
    """
    spec, columns = world_requests(setting.requests, recipe_of(setting).encoder.history)
    counts = StepFlops(setting.warm)
    fit(setting, spec, columns, folder, counts, limit)
    if not counts.flops:
        raise RuntimeError(
            f"no step was counted in {limit:.0f} s; remedy: more time (option: --minutes)"
        )
    return {"flops": counts.flops}


def product(setting: Setting, _: Path, __: float) -> Found:
    """Measure the device's own speed on bf16 products.

    Args:
        setting: sizes.
    """
    return {"tflops": product_rate(clock_of(setting.device), setting.device, setting.product)}


def ranking_in(precision: str) -> Callable[[Setting, Path, float], Found]:
    """Make the part that times the ranking of batches, from host memory to lists in host memory.

    Args:
        precision: "float32", which is how the product ranks, or "bf16" by autocast.
    """

    def ranking(setting: Setting, _: Path, limit: float) -> Found:
        config = recipe_of(setting)
        spec, columns = world_requests(8 * setting.rank_batch, config.encoder.history)
        torch.manual_seed(0)
        ranker = build_ranker(spec, config.ranker).eval().to(setting.device)
        clock, slots = clock_of(setting.device), config.ranker.slots
        batches = list(columns.batches(setting.rank_batch))

        def work(i: int) -> tuple[Any, Any]:
            batch = batches[i % len(batches)].to(setting.device)
            start = clock.mark()
            lists = ranker.rank(batch, slots)
            end = clock.mark()
            lists.cpu()
            return start, end

        half = precision == "bf16"
        context = torch.autocast(setting.device, torch.bfloat16) if half else nullcontext()
        with torch.inference_mode(), context:
            whole, marked = timed(
                work, clock, count=setting.ranks, warm=max(setting.ranks // 10, 1), limit=limit
            )
        about = {"batch": setting.rank_batch, "slots": slots, "batches": len(whole)}
        return {**about, **tails("", whole), **tails("device_", marked)}

    return ranking


def tails(prefix: str, seconds: list[float]) -> dict[str, float | None]:
    """Work out the median and the p99 in milliseconds.

    Args:
        prefix: of their names.
        seconds: of each call.
    """
    found = {f"{prefix}p{share:.0f}_ms": percentile(seconds, share / 100) for share in (50, 99)}
    return {name: each and 1e3 * each for name, each in found.items()}


def cut_grid(setting: Setting, name: str) -> ScalingSuite:
    """Cut the grid for a GPU to one generator at one size, one data size and one seed.

    Args:
        setting: sizes.
        name: of the point.
    """
    grid = load_scaling(GRID).model_dump(exclude_unset=True)
    return build_scaling(
        grid
        | {
            "rankers": ["goalrank"], "sizes": [{"name": name, "ranker": setting.points[name]}],
            "data": [setting.data], "groups": [20], "seeds": [0], "test": setting.test,
            "validation": setting.test, "split": 0, "recipe": merge(grid["recipe"], setting.recipe),
        }
    )  # fmt: skip


def point_of(name: str) -> Callable[[Setting, Path, float], Found]:
    """Make the part that runs one point of the scaling grid.

    Args:
        name: of the point.
    """

    def point(setting: Setting, folder: Path, _: float) -> Found:
        suite = cut_grid(setting, name)
        grid = folder.parent / "grid"  # of all points: they share a reward model
        accelerator = "gpu" if setting.device == "cuda" else "cpu"
        run_scaling(suite, grid, accelerator=accelerator, retry=True)
        (cell,) = plan_scaling(suite)
        found: Found = json.loads((grid / "cells" / f"{cell.key}.json").read_text("utf-8"))
        if found["status"] != "ok":
            raise RuntimeError(found["reason"])
        names = ("parameters", "parameters_all", "data", "group", "steps", "flops_training",
                 "loss", "regret", "seconds")  # fmt: skip
        return {each: found[each] for each in names} | {
            "peak_memory_gb": peak_memory(setting.device)
        }

    return point


def reset_peak_memory(device: str) -> None:
    """Begin the device's peak of memory anew, without what earlier work left.

    A trainer and its model refer to each other, so that their tensors stay until cycles are looked
    for: after a part that ran out of memory the next one would too.

    Args:
        device: "cuda" or "cpu".
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> float | None:
    """Read the most memory that tensors took, in GB; None on a CPU.

    Args:
        device: "cuda" or "cpu".
    """
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
