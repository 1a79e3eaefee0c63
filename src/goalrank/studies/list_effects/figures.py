"""Figures of a study of list effects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from goalrank.reporting import Bar, bar_chart, line_chart, save_figure

_DRAWN = 2  # contrasts in the figure of swaps: each model over the one before it


def draw(result: Mapping[str, Any], folder: Path) -> None:
    """Draw rates by position, and slopes of swaps where there are enough of them.

    Args:
        result: content of list-effects.json.
        folder: for positions.svg, swaps.svg and the same as PNG.
    """
    figures = {"positions": _positions(result)}
    slopes = _slopes(result)
    if slopes:
        figures["swaps"] = bar_chart(
            slopes,
            xlabel="observed per predicted change, beyond the other model (slope; 1 is right)",
        )
    for name, figure in figures.items():
        for ending in ("svg", "png"):
            save_figure(figure, folder / f"{name}.{ending}")


def _positions(result: Mapping[str, Any]) -> Any:
    rows = result["slots"]
    slot = np.array([row["slot"] for row in rows])
    observed = [row["observed"] for row in rows]
    half = [0.0 if each["low"] is None else (each["high"] - each["low"]) / 2 for each in observed]
    series = {"observed, 95 %": (slot, [each["mean"] for each in observed])}
    series |= {name: (slot, m["predicted_by_slot"]) for name, m in result["models"].items()}
    return line_chart(
        series,
        xlabel="position",
        ylabel=f"rate of {result['kind']}",
        markers=True,
        size=(6.4, 4.0),
        spread={"observed, 95 %": half},
    )


def _slopes(result: Mapping[str, Any]) -> list[Bar]:
    """One bar per group of lists, measure and two models of which one predicts more."""
    return [
        Bar(
            f"{group}: {measure}", fit["slope"]["mean"], fit["slope"]["low"], fit["slope"]["high"],
            model,
        )
        for group, found in result["swaps"].items()
        for model, fits in list(found.get("contrasts", {}).items())[:_DRAWN]
        for measure, fit in fits.items()
        if fit["slope"]["mean"] is not None
    ]  # fmt: skip
