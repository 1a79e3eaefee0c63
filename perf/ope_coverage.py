"""Coverage of off-policy intervals where logs say little: small effective sizes and few clicks.

    python perf/ope_coverage.py --out results/ope-coverage.json

A log of 1,000 requests of 500 users, lognormal weights whose effective sample size is as asked on
average, and clicks whose rate rises with the weight (the new policy is better by about a fifth). 300
logs per cell; intervals from 200 resamples of users, as `goalrank ope` makes them. A test holds the table of
docs/experiments.md to the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from goalrank.evaluation import (
    Logged,
    effective_clicks,
    effective_size,
    estimate,
    lower_bounds,
    resample,
)
from goalrank.storage import write_json

REQUESTS, USERS, CAP = 1000, 500, 10.0
NAMES = ("ips", "snips", "dr")
RATES, SIZES = (0.005, 0.01, 0.02, 0.05), (50, 100, 300)
SLOPE = 0.15  # of the log click rate over the log weight


def draw_log(rng: np.random.Generator, rate: float, size: int) -> tuple[Logged, np.ndarray]:
    """One log and its click probabilities."""
    spread = np.log(REQUESTS / size)  # variance of log w for which E[w] = 1 and ESS is `size`
    log_weight = rng.normal(-spread / 2, np.sqrt(spread), REQUESTS)
    chance = np.minimum(rate * np.exp(SLOPE * log_weight), 1.0)
    click = (rng.random(REQUESTS) < chance).astype(np.float64)
    model = np.full(REQUESTS, rate)
    return Logged(click, log_weight, np.zeros(REQUESTS), model, model), chance


def true_value(rate: float, size: int) -> float:
    """E[w · rate · w^SLOPE] of lognormal weights."""
    spread = np.log(REQUESTS / size)
    power = 1 + SLOPE
    return float(rate * np.exp(-power * spread / 2 + power**2 * spread / 2))


def cell(rate: float, size: int, logs: int, seed: int) -> dict[str, Any]:
    """Shares of logs whose interval or bound holds the truth."""
    truth, users = true_value(rate, size), np.arange(REQUESTS) % USERS
    rng = np.random.default_rng([seed, round(1e6 * rate), size])
    held = dict.fromkeys((*NAMES, "lower bound"), 0)
    sizes, clicks, bounds = [], [], []
    for number in range(logs):
        logged, _ = draw_log(rng, rate, size)
        resampler = resample(users, "user", 200, number)
        _, found = estimate(logged, NAMES, resampler)
        for name in NAMES:
            held[name] += found[name].value.low <= truth <= found[name].value.high
        bound = lower_bounds(logged, resampler, cap=CAP, most=1.0)
        assert bound is not None  # clicks are 0 or 1
        held["lower bound"] += bound.value <= truth
        bounds.append(bound.value / truth)
        sizes.append(effective_size(logged.weight))
        clicks.append(effective_clicks(logged.weight, logged.reward))
    return {
        "rate": rate, "size": size, "truth": truth, "effective": float(np.median(sizes)),
        "clicks": float(np.median(clicks)), "bound_of_truth": float(np.median(bounds)),
        **{name: count / logs for name, count in held.items()},
    }  # fmt: skip


def table(cells: Iterable[dict[str, Any]]) -> str:
    """The cells as Markdown."""
    heads = ("click rate", "ESS", "answers of equal weight", *NAMES, "lower bound", "bound ÷ value")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for each in cells:
        row = [f"{100 * each['rate']:g} %", f"{each['effective']:.0f}", f"{each['clicks']:.1f}"]
        row += [f"{each[name]:.2f}" for name in (*NAMES, "lower bound")]
        lines.append("| " + " | ".join([*row, f"{each['bound_of_truth']:.2f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run every cell and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/ope-coverage.json"))
    parser.add_argument("--logs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cells = [cell(rate, size, given.logs, given.seed) for size in SIZES for rate in RATES]
    write_json(given.out, {"logs": given.logs, "seed": given.seed, "cells": cells})
    print(table(json.loads(given.out.read_text())["cells"]))


if __name__ == "__main__":
    main()
