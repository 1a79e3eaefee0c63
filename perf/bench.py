"""Speed benchmark: every figure of speed, each as a ratio measured in one run.

    python perf/bench.py                  # everything that can run on this machine
    python perf/bench.py --quick          # fewer pairs, smaller data
    python perf/bench.py --only decode    # one section

It writes results/bench.json and the table in docs/performance.md. The two sides of a ratio run in
turn on one machine, and the median of the ratios of pairs is reported, so that other load cancels
out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from rows_cost import exponents, processes
from rows_data import appended, growth, movielens
from rows_plain import against_plain
from rows_serving import decoding, onnx
from rows_step import against_authors, against_prm

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- bench:start -->", "<!-- bench:end -->"


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: what was measured.
        value: the ratio, exponent or seconds; None if it could not be measured.
        target: value to reach, as text.
        reached: whether it was reached; None without a target.
        absolute: the measured medians; each name has its unit.
        note: why it could not be measured, or a remark.
    """

    name: str
    value: float | None
    target: str = ""
    reached: bool | None = None
    absolute: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """Options of a run.

    Attributes:
        quick: fewer pairs and smaller data.
        full: also the largest data.
        threads: threads of PyTorch.
    """

    quick: bool
    full: bool
    threads: int


Section = Callable[[Setting], Iterator[Row]]
SECTIONS: dict[str, Section] = {}


def judged(name: str, value: float, target: str, absolute: dict[str, float], note: str = "") -> Row:
    """Make a row with a target.

    Args:
        name: what was measured.
        value: the measured value.
        target: such as "≥ 50" or "≤ 2.2".
        absolute: the measured medians.
        note: a remark.
    """
    sign, limit = target.split()
    reached = value >= float(limit) if sign == "≥" else value <= float(limit)
    return Row(name, round(value, 3), target, reached, absolute, note)


def step_rows(setting: Setting) -> Iterator[Row]:
    """Measure training steps against the authors' schedule and against PRM."""
    for batch in (16, 64):
        result = against_authors(batch, pairs=1 if setting.quick else 3)
        yield judged(f"authors' step / GoalRank step, B {batch}", result.ratio, "≥ 50", result.ms)
    for batch, history in ((16, 0), (64, 0), (64, 20)):
        result = against_prm(batch, history, pairs=5 if setting.quick else 15)
        name = f"GoalRank step / PRM step, B {batch}, history {history}"
        yield judged(name, result.ratio, "≤ 2.2", result.ms)


def plain_rows(setting: Setting) -> Iterator[Row]:
    """Measure PRM against a plain one: training, and scoring at two batch sizes."""
    for history in (0, 20):
        for name, least, result in against_plain(history, pairs=5 if setting.quick else 31):
            low, high = result.quartiles
            absolute = {**result.ms, "lower quartile of the ratio": low, "upper": high}
            row = f"plain PRM / PRM, {name}, history {history}"
            yield judged(row, result.ratio, f"≥ {least}", absolute)


def decode_rows(setting: Setting) -> Iterator[Row]:
    """Measure greedy decoding against PRM and the authors' decoding."""
    for batch in (1, 16, 256):
        prm, authors = decoding(batch, pairs=5 if setting.quick else 15)
        yield judged(f"greedy decode / PRM pass, batch {batch}", prm.ratio, "≤ 1.3", prm.ms)
        name = f"authors' decode / greedy decode, batch {batch}"
        yield judged(name, authors.ratio, "≥ 5", authors.ms)


def onnx_rows(setting: Setting) -> Iterator[Row]:
    """Measure PyTorch decoding against the exported graph."""
    try:
        for name, result in onnx(pairs=5 if setting.quick else 25):
            yield judged(f"eager / ONNX, {name}'s list, batch 1", result.ratio, "≥ 2", result.ms)
    except ImportError as error:
        yield Row("eager / ONNX, lists, batch 1", None, "≥ 2", note=f"extra [onnx]: {error}")


def data_rows(setting: Setting) -> Iterator[Row]:
    """Measure the import of logs."""
    if os.environ.get("GOALRANK_DATA"):
        cost = movielens()
        found = {"s": round(cost.seconds, 2), "CPU s": round(cost.cpu, 2)}
        yield judged("ML-1M raw → requests, seconds", cost.seconds, "≤ 6", found)
        peak = {"MB": round(cost.peak_mb, 0)}
        yield judged("ML-1M raw → requests, peak GB", cost.peak_mb / 1000, "≤ 1", peak)
    else:
        note = "set GOALRANK_DATA to a folder with ml-1m"
        yield Row("ML-1M raw → requests, seconds", None, "≤ 6", note=note)
    sizes = [30_000, 100_000] if setting.quick else [100_000, 1_000_000]
    sizes += [10_000_000] if setting.full else []
    slope, absolute = growth(sizes)
    name = f"import, exponent over rows {sizes[0]:,} … {sizes[-1]:,}"
    yield judged(name, slope, "≤ 1.05", absolute)
    share, absolute = appended(sizes[-1])
    yield judged(f"append 1 % to {sizes[-1]:,} rows / import", share, "≤ 0.05", absolute)


def cost_rows(setting: Setting) -> Iterator[Row]:
    """Measure how cost grows with each size."""
    for name, slope, target, absolute in exponents(pairs=3 if setting.quick else 7):
        if target:
            yield judged(name, slope, target, absolute)
        else:
            yield Row(name, round(slope, 3), absolute=absolute)


def process_rows(setting: Setting) -> Iterator[Row]:
    """Measure two training processes against one."""
    result = processes(seconds=4 if setting.quick else 15)
    name = "2 processes / 1 process of one thread, requests per second"
    yield judged(name, result.ratio, "≥ 1.8", result.ms)


SECTIONS.update(
    {
        "step": step_rows,
        "plain": plain_rows,
        "decode": decode_rows,
        "onnx": onnx_rows,
        "data": data_rows,
        "cost": cost_rows,
        "processes": process_rows,
    }
)


def machine(threads: int) -> dict[str, str | int]:
    """Describe the machine.

    Args:
        threads: threads of PyTorch.
    """
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return {
        "cpu": model, "cores": os.cpu_count() or 0, "threads": threads,
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def table(rows: list[Row], about: dict[str, str | int]) -> str:
    """Write the rows as a Markdown table.

    Args:
        rows: the rows.
        about: of `machine`.
    """
    lines = [
        f"Measured on {about['cpu']}, {about['cores']} cores, {about['threads']} thread(s), "
        f"torch {about['torch']}.",
        "",
        "| what | measured | to reach | reached | medians |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        value = "not run" if row.value is None else f"{row.value:.3g}"
        reached = {True: "yes", False: "**no**", None: ""}[row.reached]
        beside = ", ".join(f"{k} {v:g}" for k, v in row.absolute.items()) or row.note
        lines.append(f"| {row.name} | {value} | {row.target} | {reached} | {beside} |")
    return "\n".join(lines)


def replace_file(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Args:
        path: of the file.
        text: its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write(made: dict[str, list[Row]], about: dict[str, str | int]) -> str:
    """Write results/bench.json and the table in docs/performance.md.

    Sections that were not run keep their rows.

    Args:
        made: name of section → its new rows.
        about: of `machine`.

    Returns:
        The table.
    """
    record = ROOT / "results" / "bench.json"
    old = json.loads(record.read_text(encoding="utf-8"))["sections"] if record.exists() else {}
    kept = {name: [Row(**row) for row in rows] for name, rows in old.items()} | made
    sections = {name: kept[name] for name in SECTIONS if name in kept}
    plain = {name: [asdict(row) for row in rows] for name, rows in sections.items()}
    data = {"machine": about, "sections": plain}
    replace_file(record, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    lines = table([row for rows in sections.values() for row in rows], about)
    page = ROOT / "docs" / "performance.md"
    text = (
        page.read_text(encoding="utf-8") if page.exists() else f"# Performance\n\n{START}\n{END}\n"
    )
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    replace_file(page, f"{before}{START}\n{lines}\n{END}{after}")
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer pairs, smaller data")
    parser.add_argument("--full", action="store_true", help="10^7 synthetic rows as well")
    parser.add_argument(
        "--only", choices=sorted(SECTIONS), help="one section; the figures of others stay"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    setting = Setting(args.quick, args.full, args.threads)
    made: dict[str, list[Row]] = {}
    for name, section in SECTIONS.items():
        if args.only in (None, name):
            made[name] = []
            for row in section(setting):
                made[name].append(row)
                print(row.name, row.value, row.target, row.absolute, row.note, flush=True)
    print(write(made, machine(args.threads)))


if __name__ == "__main__":
    main()
