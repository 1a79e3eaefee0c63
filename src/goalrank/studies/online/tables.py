"""The tables of a simulated online test, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goalrank.reporting import Table, make_columns
from goalrank.wording import counted, p_value, signed


def online_tables(result: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Relative lifts (the paper's form), absolute ones, and what the world knows.

    Args:
        result: content of online.json.
        metrics: columns of the lifts.
    """
    control = result["arms"][result["control"]]["label"]
    percent = round(100 * result["confidence"], 1)
    seeds = len(result["seeds"])
    head = (
        f"Simulated online test '{result['name']}': {result['days']} days, "
        f"{counted(seeds, 'seed')}, lifts over {control}, "
        f"{percent:g} % intervals {_made_by(seeds)}."
    )
    parts = [
        f"Lift in %, mean over seeds; * the interval leaves 0 out; in brackets the standard "
        f"deviation between seeds.\n\n{_lifts(result, metrics, 'relative', 100.0, 2)}",
        f"Absolute lift, a request.\n\n{_lifts(result, metrics, 'absolute', 1.0, 4)}",
        f"What the world knows: expected reward of served lists, of the near-optimum, and the "
        f"regret between them; 'best lists' are those without exploration.\n\n{_truth(result)}",
    ]
    sizes = ", ".join(map(p_value, result["size_p_value"]))
    tail = f"p-value of the arms' sizes against their weights, seed by seed: {sizes}."
    return "\n\n".join([head, *parts, tail]) + "\n"


def _made_by(seeds: int) -> str:
    if seeds == 1:
        return "by the delta method over users alone: one seed says nothing about another"
    return "by Student's t over the seeds, each of which has users and models of its own"


def _lifts(
    result: Mapping[str, Any], metrics: Sequence[str], which: str, scale: float, digits: int
) -> str:
    rows = []
    for arm in result["arms"].values():
        if arm["lifts"]:
            cells = [_cell(arm["lifts"][metric], which, scale, digits) for metric in metrics]
            rows.append([arm["label"], *cells])
    return Table(make_columns("arm", *metrics), rows).markdown()


def _cell(lift: Mapping[str, Any], which: str, scale: float, digits: int) -> str:
    value, low, high = (scale * lift[which][key] for key in ("value", "low", "high"))
    star = "*" if low > 0 or high < 0 else ""
    spread = lift[f"{which}_deviation"]
    between = "" if spread is None else f" ({scale * spread:.{digits}f})"
    return f"{signed(value, digits)}{star} [{signed(low, digits)}, {signed(high, digits)}]{between}"


def _truth(result: Mapping[str, Any]) -> str:
    names = ["arm", "users a seed", "requests", "true reward", "near-optimum", "share of it",
             "regret", "first day", "last day", "regret of best lists"]  # fmt: skip
    rows = []
    for arm in result["arms"].values():
        users = sum(arm["users"]) / len(arm["users"])
        cells = [arm["true_reward"], arm["optimum"], arm["true_reward"] / arm["optimum"],
                 arm["regret"], arm["regret_first_day"], arm["regret_last_day"],
                 arm["regret_best"]]  # fmt: skip
        numbers = [f"{value:.4f}" for value in cells]
        rows.append([arm["label"], f"{users:,.0f}", f"{arm['requests']:,}", *numbers])
    return Table(make_columns(*names), rows).markdown()
