"""The first screen of a report: differences to the best baseline, and what moved up in a few requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from goalrank.evaluation import Reason
from goalrank.reporting.report import Example, Report
from goalrank.wording import ordinal, signed

EXAMPLES = 5  # on the first screen; the rest is folded
_REASONS = 2
_ROOM = 0.04  # of the axis, free at either end
_STEPS = 4  # of the axis, at most


def difference_rows(report: Report) -> dict[str, Any] | None:
    """Points and whiskers of the main comparison in percent of the axis, best first.

    Returns:
        "rows" with "name", "trained", "mean", "low", "high", "sure" and the percents "point",
        "from" and "width"; "zero", the percent of 0; "ticks", numbers of the axis with "at", the
        percent, "text" and "odd", whether a narrow axis leaves it out. None where nothing is compared.
    """
    found = {
        name: d
        for name, d in report.differences.items()
        if all(math.isfinite(d[key]) for key in ("mean", "low", "high"))
    }
    if not found:
        return None
    low = min(0.0, *(d["low"] for d in found.values()))
    high = max(0.0, *(d["high"] for d in found.values()))
    room = _ROOM * ((high - low) or 1.0)
    low, span = low - room, (high - low) + 2 * room

    def percent(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    rows = [
        {
            "name": name,
            "trained": name in report.trained,
            **{key: d[key] for key in ("mean", "low", "high")},
            "sure": d["low"] > 0 or d["high"] < 0,
            "point": percent(d["mean"]),
            "from": percent(d["low"]),
            "width": round(percent(d["high"]) - percent(d["low"]), 2),
        }
        for name, d in sorted(found.items(), key=lambda pair: -pair[1]["mean"])
    ]
    ticks = [{**tick, "at": percent(tick["value"])} for tick in axis_ticks(low, low + span)]
    return {"rows": rows, "zero": percent(0.0), "ticks": ticks}


def axis_ticks(low: float, high: float) -> list[dict[str, Any]]:
    """Round numbers of an axis of differences: multiples of 1, 2, 2.5 or 5 times a power of 10.

    Args:
        low: left end.
        high: right end, above `low`.

    Returns:
        From left to right: "value", "text" and "odd", whether it is an odd multiple of the step.
    """
    rough = (high - low) / _STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    times = next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    step = times * power
    digits = max(0, (times == 2.5) - math.floor(math.log10(step) + 1e-9))
    return [
        {"value": i * step, "text": signed(i * step, digits) if i else "0", "odd": i % 2 == 1}
        for i in range(math.ceil(low / step), math.floor(high / step) + 1)
    ]


def told_move(example: Example, meanings: Mapping[str, str]) -> dict[str, Any] | None:
    """What moved up in an example, in words; None where it was not asked."""
    move = example.move
    if move is None:
        return None
    return {
        "ranker": move.ranker,
        "baseline": move.baseline,
        "title": example.candidates[move.position],
        "liked": bool(example.liked[move.position]),
        "before": ordinal(move.before + 1),
        "after": ordinal(move.after + 1),
        "up": move.before > move.after,
        "reasons": [_told_reason(reason, meanings) for reason in move.reasons[:_REASONS]],
        "more": max(len(move.reasons) - _REASONS, 0),
    }


def _told_reason(reason: Reason, meanings: Mapping[str, str]) -> dict[str, str]:
    place = "not in the list" if reason.place is None else ordinal(reason.place + 1)
    return {
        "feature": reason.feature,
        "meaning": meanings.get(reason.feature, ""),
        "level": "a high" if reason.value > reason.typical else "a low",
        "value": f"{reason.value:.3g}",
        "typical": f"{reason.typical:.3g}",
        "place": place,
    }
