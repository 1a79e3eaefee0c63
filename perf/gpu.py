"""What one NVIDIA GPU does with goalrank, in at most ten minutes.

    python perf/gpu.py                                  # writes results/gpu.json
    python perf/gpu.py --minutes 5 --out mine.json
    python perf/gpu.py --cpu-smoke                      # does it run? tiny sizes, no GPU

It measures training steps of a generator of 0.1 B parameters in bf16 and the model FLOPs utilisation
(MFU), the time to rank a batch of 256 requests, and three points of the scaling grid. The record is
written after every part, and a run that was cut short goes on where it stopped. Parts for which the
time is too short are skipped, which table and record say.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench import ROOT, machine
from device_speed import peak_tflops, utilisation
from goalrank import __version__
from goalrank.errors import ConfigError, GoalRankError
from goalrank.nn import CHUNK_ROWS
from goalrank.storage import try_folder, write_json
from gpu_parts import (
    CANDIDATES,
    FULL,
    GRID,
    SMOKE,
    Found,
    Setting,
    operations,
    point_of,
    product,
    ranking_in,
    reset_peak_memory,
    training,
)

MEANINGLESS = "a CPU with tiny sizes: these figures mean nothing, only that the script runs"


@dataclass(frozen=True)
class Part:
    """One part of the run.

    Attributes:
        name: of the part.
        least: seconds without which it is not begun.
        run: measures it, given the sizes, a folder and the seconds that it may take.
        like: an earlier part that takes no longer; its seconds are needed too.
    """

    name: str
    least: float
    run: Callable[[Setting, Path, float], Found]
    like: str = ""


PARTS = (
    Part("training", 30.0, training),
    Part("operations", 30.0, operations),
    Part("product", 10.0, product),
    Part("ranking float32", 10.0, ranking_in("float32")),
    Part("ranking bf16", 10.0, ranking_in("bf16")),
    Part("1e6", 30.0, point_of("1e6")),
    Part("1e7", 30.0, point_of("1e7"), like="1e6"),
    Part("1e8", 45.0, point_of("1e8"), like="1e7"),
)
# Of the time left, for parts that can stop early.
SHARES = {"training": 0.2, "operations": 0.25, "ranking float32": 0.125, "ranking bf16": 0.125}

Outcome = dict[str, Any]


def run_parts(
    parts: Sequence[Part],
    done: dict[str, Outcome],
    setting: Setting,
    deadline: float,
    save: Callable[[], object],
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Run the parts that are not done, as long as there is time; a failed one stops no other.

    Args:
        parts: in their order.
        done: name → outcome; is filled.
        setting: sizes.
        deadline: by `now`; no part begins for which the time is too short.
        save: is called after every part.
        now: seconds of a clock.
    """
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            if done.get(part.name, {}).get("status") == "done":
                continue
            left = deadline - now()
            least = max(part.least, done.get(part.like, {}).get("seconds", 0.0))
            if left < least:
                reason = f"{max(left, 0):.0f} s were left, {least:.0f} s are needed"
                done[part.name] = {"status": "skipped", "reason": f"{reason}; option: --minutes"}
            else:
                begin = now()
                outcome = attempt(part, setting, Path(folder) / part.name, left)
                done[part.name] = outcome | {"seconds": round(now() - begin, 1)}
            save()


def attempt(part: Part, setting: Setting, folder: Path, left: float) -> Outcome:
    """Run a part; what goes wrong becomes its outcome.

    Args:
        part: the part.
        setting: sizes.
        folder: is made.
        left: seconds.
    """
    folder.mkdir()
    reset_peak_memory(setting.device)
    try:
        found = part.run(setting, folder, left * SHARES.get(part.name, 1.0))
        json.dumps(found, allow_nan=False)  # a figure that is no number fails its part alone
    except Exception as error:  # the machine is rented: the other parts are measured all the same
        traceback.print_exc()
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {"status": "done", "found": found}


def figures(
    parts: Mapping[str, Outcome], peak: float | None, device: str
) -> list[tuple[str, float | None, str]]:
    """Work out the rows of the table: what, its value, and its unit or why there is none.

    Args:
        parts: name → outcome.
        peak: of the device, bf16 TFLOP/s; None where unknown.
        device: its name.
    """
    missing = {"status": "skipped", "reason": "not run yet"}
    outcomes = {part.name: parts.get(part.name, missing) for part in PARTS}
    rows: list[tuple[str, float | None, str]] = []
    for name, outcome in outcomes.items():
        if outcome["status"] != "done":
            rows.append((name, None, f"{outcome['status']}: {outcome['reason']}"))
        elif name == "training":
            rows += training_rows(outcome["found"])
        elif name == "operations":
            rows += operation_rows(outcomes, peak, device)
        elif name == "product":
            rows.append(("bf16 products of large matrices", outcome["found"]["tflops"], "TFLOP/s"))
        elif name.startswith("ranking"):
            rows += ranking_rows(name.removeprefix("ranking "), outcome["found"])
        else:
            rows += point_rows(name, outcome["found"])
    return rows


def training_rows(found: Found) -> list[tuple[str, float | None, str]]:
    """Work out the rows of training.

    Args:
        found: by `training`.
    """
    return [
        ("parameters", found["parameters"], f"{found['parameters_without_ids']:,} without ids"),
        (f"training step, batch {found['batch']}, {found['precision']}",
         statistics.median(found["step_ms"]), f"ms, median of {found['steps']}"),
        ("the same by the host's clock", found["wall_ms_per_step"], "ms, mean"),
        ("training", found["requests_per_second"], "requests/s"),
        ("memory of training, peak", found["peak_memory_gb"], "GB"),
    ]  # fmt: skip


def operation_rows(
    outcomes: Mapping[str, Outcome], peak: float | None, device: str
) -> list[tuple[str, float | None, str]]:
    """Work out the rows of operations: per step, and as a share of two peaks.

    Shares are over the steps that were both timed and counted.

    Args:
        outcomes: of all parts; that of `operations` is done.
        peak: of the device; None where unknown.
        device: its name.
    """
    flops: list[float] = outcomes["operations"]["found"]["flops"]
    rows: list[tuple[str, float | None, str]] = [
        ("operations per step", statistics.fmean(flops) / 1e12,
         f"TFLOP, counted on {len(flops)} steps")
    ]  # fmt: skip
    if outcomes["training"]["status"] != "done":
        return [*rows, ("MFU", None, "left out: no step was timed")]
    step_ms = outcomes["training"]["found"]["step_ms"]
    both = min(len(flops), len(step_ms))
    counted, seconds = sum(flops[:both]), sum(step_ms[:both]) / 1e3
    why = f"left out: no peak is known for '{device}'; option: --peak-tflops"
    rows.append(share_row("MFU, of the data sheet's peak", counted, seconds, peak, why))
    measured = outcomes["product"].get("found", {}).get("tflops")
    why = "left out: the product rate was not measured"
    return [*rows, share_row("of the measured product rate", counted, seconds, measured, why)]


def share_row(
    name: str, flops: float, seconds: float, peak: float | None, why: str
) -> tuple[str, float | None, str]:
    """Work out a share of a peak.

    Args:
        name: of the row.
        flops: operations.
        seconds: that they took.
        peak: TFLOP/s; None leaves the share out.
        why: it is left out.
    """
    if peak is None:
        return name, None, why
    try:
        return name, utilisation(flops, seconds, peak), f"of {peak:,.4g} TFLOP/s"
    except ValueError as error:
        return name, None, f"left out: {error}"


def ranking_rows(precision: str, found: Found) -> list[tuple[str, float | None, str]]:
    """Work out the rows of ranking in one precision.

    Args:
        precision: "float32" or "bf16".
        found: by the part.
    """
    rows: list[tuple[str, float | None, str]] = []
    for name in ("p50", "p99"):
        few = "" if found[f"{name}_ms"] else f"; left out: {found['batches']} batches are too few"
        what = f"rank {found['batch']} requests, {precision}, {name}"
        rows.append((what, found[f"{name}_ms"], f"ms from host to host{few}"))
        rows.append((f"{what}, on the device", found[f"device_{name}_ms"], f"ms{few}"))
    return rows


def point_rows(name: str, found: Found) -> list[tuple[str, float | None, str]]:
    """Work out the rows of a point of the scaling grid.

    Args:
        name: of the point.
        found: by its part.
    """
    about = (
        f"{found['parameters']:,} parameters, {found['data']:,} requests, {found['steps']} steps"
    )
    return [
        (f"point {name}, regret", found["regret"], about),
        (f"point {name}, whole", found["seconds"], "s"),
        (f"point {name}, memory, peak", found["peak_memory_gb"], "GB"),
    ]


def table(content: Mapping[str, Any]) -> str:
    """Write a record as a Markdown table.

    Args:
        content: of the record.
    """
    lines = [content["note"], "", "| what | measured | unit or remark |", "|---|---:|---|"]
    for name, value, remark in content["figures"]:
        lines.append(f"| {name} | {'' if value is None else f'{value:,.4g}'} | {remark} |")
    return "\n".join(lines)


def resumed(out: Path | None, identity: Mapping[str, Any], fresh: bool) -> dict[str, Outcome]:
    """Read the parts that an earlier run of the same kind finished.

    Args:
        out: the record; None has none.
        identity: what all parts of a record share.
        fresh: leave them out.

    Raises:
        ConfigError: the record is of another device, version or size, or cannot be read.
    """
    if out is None or fresh or not out.exists():
        return {}
    remedy = "remedy: another file (option: --out), or measure all anew (option: --fresh)"
    try:
        content = json.loads(out.read_text(encoding="utf-8"))
        before, parts = content["identity"], content["parts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"'{out}' is no record of this script ({error}); {remedy}") from error
    wanted = json.loads(json.dumps(identity))
    differ = [name for name in wanted if before.get(name) != wanted[name]]
    if differ:
        raise ConfigError(f"'{out}' was measured with another {', '.join(differ)}; {remedy}")
    return {name: each for name, each in parts.items() if each["status"] == "done"}


def device_name(smoke: bool) -> str:
    """Name the device that is measured.

    Args:
        smoke: measure on the CPU.

    Raises:
        ConfigError: there is no CUDA device.
    """
    if smoke:
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(
            f"torch {torch.__version__} sees no CUDA device here, and this script measures one; "
            f"remedy: run it on a machine with an NVIDIA GPU and PyTorch's CUDA build, or see that "
            f"it runs, with figures that mean nothing (option: --cpu-smoke)"
        )
    return torch.cuda.get_device_name()


def checked_out(given: Path | None, smoke: bool) -> Path | None:
    """Choose where the record goes: results/gpu.json by default, nowhere for a smoke run.

    Args:
        given: by the user.
        smoke: figures mean nothing, and do not belong beside measured ones.

    Raises:
        ConfigError: a smoke run is to be written into results/, or the record is a folder.
        DataError: the record's folder cannot be written.
    """
    results = ROOT / "results"
    if given is not None and given.is_dir():
        raise ConfigError(f"'{given}' is a folder; remedy: a file in it (option: --out)")
    if not smoke:
        given = given or results / "gpu.json"
    elif given is not None and given.resolve().is_relative_to(results):
        raise ConfigError(
            f"'{given}' is among the recorded results, and figures of --cpu-smoke mean nothing; "
            f"remedy: a file elsewhere (option: --out)"
        )
    if given is not None:
        try_folder(given.resolve().parent)  # an error now, not after the first part
    return given


def checked_batch(batch: int) -> int:
    """Check the number of requests per training step.

    Args:
        batch: by the user.

    Raises:
        ConfigError: below 1, or so large that the encoder computes some things twice to save memory,
            which MFU must not count.
    """
    most = CHUNK_ROWS // CANDIDATES
    if not 1 <= batch <= most:
        raise ConfigError(
            f"{batch} requests per step: from 1 to {most}, above which the encoder computes in "
            f"chunks, some of it twice (option: --batch)"
        )
    return batch


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run all parts and write the record.

    Args:
        args: of the command line.

    Returns:
        The record.
    """
    deadline = time.monotonic() + 60 * args.minutes
    device = device_name(args.cpu_smoke)
    out = checked_out(args.out, args.cpu_smoke)
    setting = SMOKE if args.cpu_smoke else FULL
    setting = (
        replace(setting, batch=checked_batch(args.batch)) if args.batch is not None else setting
    )
    versions = {"goalrank": __version__, "torch": torch.__version__, "cuda": torch.version.cuda}
    grid = hashlib.sha256(GRID.read_bytes()).hexdigest()
    identity = {"device": device, "versions": versions, "setting": asdict(setting), "grid": grid}
    peak = args.peak_tflops or peak_tflops(device)
    note = (
        f"**{MEANINGLESS}.**"
        if args.cpu_smoke
        else f"Measured on {device}, torch {versions['torch']}."
    )
    content: dict[str, Any] = {
        "meaningless": args.cpu_smoke, "note": note, "identity": identity,
        "machine": machine(torch.get_num_threads()), "peak_tflops": peak,
        "peak_from": "option" if args.peak_tflops else "data sheet" if peak else None,
        "parts": resumed(out, identity, args.fresh),
    }  # fmt: skip

    def save() -> None:
        content["figures"] = figures(content["parts"], peak, device)
        if out is not None:
            write_json(out, content)

    parts = [replace(each, least=0.0) for each in PARTS] if args.cpu_smoke else PARTS
    run_parts(parts, content["parts"], setting, deadline, save)
    save()
    return content


def positive(text: str) -> float:
    """Read a number above 0.

    Args:
        text: of the option.
    """
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        given: its arguments; None takes the program's.

    Returns:
        1 where a part failed, 2 where nothing could be measured, else 0.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=positive, default=9.0, help="time for all parts (9)")
    parser.add_argument("--out", type=Path, help="the record (results/gpu.json)")
    parser.add_argument("--fresh", action="store_true", help="measure finished parts again")
    parser.add_argument(
        "--peak-tflops", type=positive, help="bf16 peak of the device without sparsity"
    )
    parser.add_argument("--batch", type=int, help="requests per training step (512)")
    parser.add_argument("--cpu-smoke", action="store_true", help="does it run? on the CPU")
    try:
        content = measure(parser.parse_args(given))
    except GoalRankError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(content))
    return int(any(each["status"] == "failed" for each in content["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
