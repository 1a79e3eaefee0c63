"""Growth of cost with each size, and speed of two processes."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from typing import Any

import torch

from timing import Compared, Work, exponent, interleave
from workloads import Models, Sizes, group_task, make_models, make_step


def _encoder(models: Models) -> Work:
    batch = models.columns.batch(slice(0, models.sizes.batch))
    return lambda: models.generator.encode(batch)


def _decoder(models: Models) -> Work:
    batch = models.columns.batch(slice(0, models.sizes.batch))
    state = models.generator.encode(batch)
    return lambda: models.generator.decode(state, models.sizes.slots)


def _step(models: Models) -> Work:
    return make_step(group_task(models), models.columns, models.sizes.batch)


_BASE = Sizes(batch=16)
# name, work, the size that grows, its values, target
_GROWTH = (
    ("encoder over N", _encoder, "candidates", (100, 200, 400, 800), "≤ 2"),
    ("greedy decode over L", _decoder, "slots", (6, 12, 24, 48), "≤ 1.15"),
    ("training step over G", _step, "lists", (20, 40, 80), ""),
    ("training step over N", _step, "candidates", (50, 100, 200), ""),
    ("training step over L", _step, "slots", (6, 12, 24), ""),
    ("training step over d", _step, "width", (64, 128, 256), ""),
    ("training step over layers", _step, "layers", (2, 4, 8), ""),
)


def exponents(pairs: int) -> Iterator[tuple[str, float, str, dict[str, float]]]:
    """Measure the exponent of every growth.

    Args:
        pairs: measurements per size.

    Yields:
        Name, exponent, target, and median milliseconds per size.
    """
    for name, make, size, values, target in _GROWTH:
        works = {}
        for value in values:
            models = make_models(_BASE.but(**{size: value}), 64)
            with torch.no_grad() if make is not _step else torch.enable_grad():
                works[str(value)] = make(models)
        with torch.no_grad() if make is not _step else torch.enable_grad():
            seconds = interleave(works, pairs, warm=1)
        medians = [statistics.median(seconds[str(v)]) for v in values]
        absolute = {f"{size} {v} ms": round(s * 1e3, 2) for v, s in zip(values, medians)}
        yield f"exponent: {name}", exponent(values, medians), target, absolute


def _train(barrier: Barrier, seconds: float, out: Any) -> None:
    torch.set_num_threads(1)
    step = _step(make_models(Sizes(batch=64)))
    for _ in range(3):
        step()
    barrier.wait()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        done += 1
    out.put(done * 64 / (time.perf_counter() - start))


def _rate(count: int, seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    barrier, out = context.Barrier(count), context.SimpleQueue()
    workers = [context.Process(target=_train, args=(barrier, seconds, out)) for _ in range(count)]
    for worker in workers:
        worker.start()
    total: float = sum(out.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


def processes(seconds: float, pairs: int = 3) -> Compared:
    """Compare training requests per second of two one-thread processes with those of one.

    Args:
        seconds: of all measurements of one side.
        pairs: number of pairs.
    """
    ones, twos = [], []
    for _ in range(pairs):
        ones.append(_rate(1, seconds / pairs))
        twos.append(_rate(2, seconds / pairs))
    rates = {
        "1 process req/s": statistics.median(ones),
        "2 processes req/s": statistics.median(twos),
    }
    ratio = statistics.median(b / a for a, b in zip(ones, twos))
    return Compared(ratio, {k: round(v, 1) for k, v in rates.items()}, pairs)
