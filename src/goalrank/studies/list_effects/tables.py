"""The tables of a study of list effects, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goalrank.reporting import Table, make_columns
from goalrank.wording import counted, p_value, signed

_NONE = "–"


def list_effects_tables(result: Mapping[str, Any]) -> str:
    """Gains, rates and calibration by slot, and swaps.

    Args:
        result: content of list-effects.json.
    """
    sizes = ", ".join(f"{count:,} {part}" for part, count in result["requests"].items())
    seeds = len(result["seeds"])
    head = (
        f"List effects on '{result['dataset']}': feedback {result['kind']}, {sizes} requests, "
        f"{counted(seeds, 'seed')}. Of rates and swaps: {result['intervals']}, "
        f"seeds averaged first; ± is the deviation between seeds."
    )
    parts = [head, f"**{result['answer']}**", _models(result), _gains(result), _slots(result)]
    parts += [_swaps(name, found) for name, found in result["swaps"].items()]
    parts.append("\n".join(f"- {note}" for note in result["notes"]))
    return "\n\n".join(parts) + "\n"


def _models(result: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{m['log_loss']:.5f}{_spread(m['log_loss_deviation'])}", _number(m["auc"]),
         _number(m["calibration_error"])]
        for name, m in result["models"].items()
    ]  # fmt: skip
    columns = make_columns("model", "log loss, nats", "AUC", "calibration error")
    return Table(columns, rows).markdown()


def _gains(result: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{gain['model']} over {gain['over']}",
            f"{_gained([gain[k] for k in ('mean', 'low', 'high')], 1e3, 3)}"
            f"{_spread(gain['deviation'], 1e3, 3)}",
            _gained([gain[k] for k in ("share", "share_low", "share_high")], 100, 2, " %"),
            ", ".join(signed(1e3 * seed["mean"]) for seed in gain["by_seed"]),
            p_value(gain["p"]),
        ]
        for gain in result["gains"]
    ]
    columns = make_columns("log loss saved", "10⁻³ nats per slot", "share", "seed by seed", "p")
    return Table(columns, rows).markdown()


def _slots(result: Mapping[str, Any]) -> str:
    models = result["models"]
    heads = ["position", "lists", "observed", *models]
    heads += [f"calibration error, {name}" for name in models]
    rows = []
    for row in result["slots"]:
        t, seen = row["slot"] - 1, row["observed"]
        cells = [f"{row['slot']}", f"{row['lists']:,}"]
        ends = "" if seen["low"] is None else f" [{seen['low']:.4f}, {seen['high']:.4f}]"
        cells.append(f"{_number(seen['mean'])}{ends}")
        cells += [_number(m["predicted_by_slot"][t]) for m in models.values()]
        cells += [_number(m["calibration_error_by_slot"][t]) for m in models.values()]
        rows.append(cells)
    return Table(make_columns(*heads), rows).markdown()


def _swaps(name: str, found: Mapping[str, Any]) -> str:
    count = (
        f"Swaps of neighbours, {name}: {counted(found['pairs'], 'pair')} of orders, shown in "
        f"{found['requests']:,} of {counted(found['of_requests'], 'test list')}"
    )
    if not found["enough"]:
        return f"{count}. Too few to compare changes: 30 pairs, shown to 30 users, are needed."
    against, beyond = _fits(found["models"], "model"), _fits(found["contrasts"], "beyond")
    return (
        f"{count}. Slope and correlation of observed on predicted changes; a slope of 1 is right.\n\n"
        f"{against}\n\nThe same beyond another model, whose prediction is taken off both sides: is "
        f"what one model predicts and the other does not there?\n\n{beyond}"
    )


def _fits(fits_of: Mapping[str, Any], head: str) -> str:
    measures = list(next(iter(fits_of.values())))
    rows = [_fit(measure, name, fits_of[name][measure]) for measure in measures for name in fits_of]
    heads = ("change of", head, "slope", "correlation", "size predicted", "observed", "predicted")
    return Table(make_columns(*heads), rows).markdown()


def _fit(measure: str, name: str, fit: Mapping[str, Any]) -> list[str]:
    known = fit["predicted"] is not None
    return [
        measure,
        name,
        _interval(fit["slope"], 2),
        _interval(fit["correlation"], 2),
        f"{fit['size']:.4f}",
        _interval(fit["observed"], 4) if known else "",
        signed(fit["predicted"], 4) if known else "",
    ]


def _spread(value: float | None, scale: float = 1.0, digits: int = 5) -> str:
    return "" if value is None else f" ± {scale * value:.{digits}f}"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"


def _gained(found: Sequence[float | None], scale: float, digits: int, unit: str = "") -> str:
    """Mean and interval; the mean alone where there is no interval, as for one user."""
    mean, low, high = (None if v is None else signed(scale * v, digits) for v in found)
    return f"{mean}{unit}" + ("" if low is None else f" [{low}, {high}]")


def _interval(value: Mapping[str, float | None], digits: int) -> str:
    mean, low, high = value["mean"], value["low"], value["high"]
    if mean is None or low is None or high is None:
        return _NONE
    return f"{signed(mean, digits)} [{signed(low, digits)}, {signed(high, digits)}]"
