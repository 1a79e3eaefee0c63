"""Cost of many candidates and long lists: time and peak memory of full and induced attention.

Each measurement runs in its own process, so that peaks do not mix; one thread, CPU time.

    python perf/long_lists.py [--batch 1] [--train]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import torch

from goalrank.encoders import EncoderSizes
from goalrank.rankers import Generator
from workloads import Sizes, make_columns, spec_of

GRID = [(n, slots) for n in (50, 500, 5000) for slots in (6, 50)]
INDUCING = 32


def measure(n: int, slots: int, inducing: int, batch: int, train: bool) -> dict[str, float]:
    """Measure ranking, or the two passes of a supervised step.

    Args:
        n: N.
        slots: L.
        inducing: inducing points; 0 for full attention.
        batch: B.
        train: measure a supervised step.

    Returns:
        The smallest `ms`, and the added peak `mb`.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    columns = make_columns(Sizes(candidates=n, slots=slots, history=20), batch)
    spec = spec_of(columns)
    model = Generator(spec, EncoderSizes(width=128, layers=2, inducing=inducing), slots)
    rows = columns.batch(slice(0, batch))
    before = _peak()
    seconds: list[float] = []
    begin = time.process_time()
    while len(seconds) < 2 or (time.process_time() - begin < 0.3 and len(seconds) < 20):
        start = time.process_time()
        if train:
            model.train().loss(rows, slots).backward()
        else:
            with torch.inference_mode():
                model.eval().rank(rows, slots)
        seconds.append(time.process_time() - start)
    return {"ms": min(seconds) * 1e3, "mb": _peak() - before}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_in_process(*arguments: int) -> dict[str, float]:
    """Run `measure` in a forked process, which starts with only the libraries loaded.

    Args:
        *arguments: of `measure`.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1, help="requests at once")
    parser.add_argument("--train", action="store_true", help="a supervised step, not ranking")
    given = parser.parse_args()
    print(f"| N | L | full, ms | full, MB | induced ({INDUCING}), ms | induced, MB |")
    print("|---|---|---|---|---|---|", flush=True)
    for n, slots in GRID:
        found = [measure_in_process(n, slots, m, given.batch, given.train) for m in (0, INDUCING)]
        cells = " | ".join(f"{f['ms']:.3g} | {f['mb']:.0f}" for f in found)
        print(f"| {n} | {slots} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
