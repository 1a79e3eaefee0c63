"""Speed of a device: its peak, how much of it a work uses, and times that wait for queued work.

A GPU works through a queue: a call returns when its work is queued, not when it is done. Times are
taken between marks in the queue (CUDA events), or by the host's clock after waiting for the queue.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

# bf16 tensor-core TFLOP/s without sparsity, by words of the device's name; the first that fits
# counts. From NVIDIA's data sheets of the A10, A30, A40, A100, H100, H200, GH200, L4, L40 and L40S;
# those from the H100 on name the speed with sparsity, twice what stands here (H100 SXM: 1,979).
PEAKS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("H100", "PCIe"), 756.0),
    (("H100", "NVL"), 835.0),
    (("H100",), 989.0),
    (("H200", "NVL"), 835.0),
    (("H200",), 989.0),
    (("GH200",), 989.0),
    (("A100",), 312.0),
    (("A30",), 165.0),
    (("A40",), 150.0),
    (("A10",), 125.0),
    (("L40S",), 362.0),
    (("L40",), 181.0),
    (("L4",), 121.0),
)
# A slice of a device, or a virtual one, has an unknown part of the whole device's speed.
SLICES = frozenset({"MIG", "GRID", "VGPU"})
FEWEST_FOR_P99 = 100


def peak_tflops(name: str) -> float | None:
    """Look a device's bf16 peak up, in TFLOP/s without sparsity; None for an unknown device.

    Args:
        name: as `torch.cuda.get_device_name` gives it, such as "NVIDIA H100 80GB HBM3".
    """
    words = {word.upper() for word in re.split(r"[^0-9A-Za-z]+", name)}
    if words & SLICES:
        return None
    fits = (peak for needed, peak in PEAKS if words >= {word.upper() for word in needed})
    return next(fits, None)


def utilisation(flops: float, seconds: float, peak: float) -> float:
    """Work out the share of a device's peak that a work uses: model FLOPs utilisation (MFU).

    Args:
        flops: floating point operations of the work; a multiply-add counts as two.
        seconds: that it took.
        peak: of the device, in TFLOP/s.

    Returns:
        A share above 0 and at most 1.

    Raises:
        ValueError: a number that is not above 0, or a share above 1, which no device reaches.
    """
    if not all(math.isfinite(each) and each > 0 for each in (flops, seconds, peak)):
        raise ValueError(
            f"{flops:g} FLOPs in {seconds:g} s at a peak of {peak:g} TFLOP/s: all must be above 0"
        )
    share = flops / seconds / (peak * 1e12)
    if share > 1:
        raise ValueError(
            f"{flops:g} FLOPs in {seconds:g} s are {share:.2f} of a peak of {peak:g} TFLOP/s: the "
            f"peak or the clock is wrong; remedy: the device's own peak (option: --peak-tflops)"
        )
    return share


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest-rank percentile; None for a tail that has less than one value on average.

    Args:
        values: at least one.
        share: 0.99 for p99, which needs 100 values.
    """
    if len(values) * (1 - share) < 1 - 1e-9:
        return None
    return sorted(values)[math.ceil(share * len(values) - 1e-9) - 1]


class Clock(Protocol):
    """Marks in a device's queue and the seconds between them."""

    def mark(self) -> Any:
        """Put a mark behind the work that is queued by now."""

    def wait(self) -> None:
        """Wait until all queued work is done."""

    def seconds(self, start: Any, end: Any) -> float:
        """Measure the seconds between two marks; call after `wait`."""


class CudaClock:
    """CUDA events on the current stream."""

    def mark(self) -> torch.cuda.Event:
        """Record an event."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self) -> None:
        """Wait for all streams of the device."""
        torch.cuda.synchronize()

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Measure the seconds between two events."""
        return float(start.elapsed_time(end)) / 1e3


class HostClock:
    """The host's clock, for a device whose calls return when their work is done."""

    def mark(self) -> float:
        """Read the clock."""
        return time.perf_counter()

    def wait(self) -> None:
        """Do nothing: no work is queued."""

    def seconds(self, start: float, end: float) -> float:
        """Subtract."""
        return end - start


def clock_of(device: str) -> Clock:
    """Choose the clock of a device.

    Args:
        device: "cuda" or "cpu".
    """
    return CudaClock() if device == "cuda" else HostClock()


def timed(
    work: Callable[[int], tuple[Any, Any]],
    clock: Clock,
    *,
    count: int,
    warm: int,
    limit: float,
    now: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Measure calls one after another: each starts when the device is idle.

    Args:
        work: is called with its number, and gives the marks around the device's part of it.
        clock: of the device.
        count: number of measured calls.
        warm: calls before them.
        limit: seconds after which no further call is made; the first is always made.
        now: the host's clock, in seconds.

    Returns:
        Seconds of each call until its work is done, and between its marks.
    """
    for i in range(warm):
        work(i)
    clock.wait()
    whole: list[float] = []
    marked: list[float] = []
    began = now()
    for i in range(count):
        start = now()
        marks = work(i)
        clock.wait()
        whole.append(now() - start)
        marked.append(clock.seconds(*marks))
        if now() - began > limit:
            break
    return whole, marked


def product_rate(clock: Clock, device: str, size: int = 8192) -> float:
    """Measure a device's bf16 TFLOP/s on products of large square matrices.

    Args:
        clock: of the device.
        device: "cuda" or "cpu".
        size: rows and columns of the matrices.
    """
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)

    def work(_: int) -> tuple[Any, Any]:
        start = clock.mark()
        for _ in range(10):
            a @ a
        return start, clock.mark()

    _, marked = timed(work, clock, count=5, warm=2, limit=20.0)
    return 10 * 2 * size**3 / min(marked) / 1e12
