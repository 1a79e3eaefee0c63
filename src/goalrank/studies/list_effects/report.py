"""What a study of list effects found: gains, calibration, curves over slots, and swaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank import evaluation as ev
from goalrank.storage import json_text, json_values, write_text
from goalrank.studies.list_effects.data import ShownLists, StudyData
from goalrank.studies.list_effects.figures import draw
from goalrank.studies.list_effects.models import ITEMS, LISTS, MODELS, POSITIONS
from goalrank.studies.list_effects.settings import ListEffectsConfig
from goalrank.studies.list_effects.swaps import find_swaps, fit_swaps
from goalrank.studies.list_effects.tables import list_effects_tables
from goalrank.wording import counted, signed

CONTRASTS = ((POSITIONS, ITEMS), (LISTS, POSITIONS), (LISTS, ITEMS))
_EPSILON = 1e-7

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def report_list_effects(
    folder: Path,
    name: str,
    data: StudyData,
    predicted: NDArray[np.float32],
    config: ListEffectsConfig,
    sizes: dict[str, int],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Write list-effects.json, table.md and the figures.

    Args:
        folder: of the study.
        name: of the data set.
        data: the requests.
        predicted: [seeds, models, R, S] probabilities, NaN where empty.
        config: the study.
        sizes: requests of each part.
        notes: sentences on what was done.

    Returns:
        The content of list-effects.json.
    """
    p = predicted.astype(np.float64)
    loss = request_losses(p, data.shown.feedback)
    unit = "user" if data.shown.has_users else "request"
    resampler = ev.resample(data.shown.users, unit, config.bootstrap, 0)
    own = resampler.clusters
    gains = [_gain(loss, model, over, own) for model, over in CONTRASTS]
    result: dict[str, Any] = json_values({
        "dataset": name,
        "kind": data.kind,
        "seeds": list(config.seeds),
        "requests": sizes,
        "split": config.split,
        "users": len(np.unique(data.shown.users)) if data.shown.has_users else None,
        "intervals_over": f"{unit}s",
        "intervals": resampler.words(unit),
        "answer": answer(gains[1]),
        "gains": gains,
        "models": {m: _model(p[:, i], loss[:, i], data.shown) for i, m in enumerate(MODELS)},
        "slots": _slots(data.shown, resampler),
        "swaps": _swaps(data.shown, p, own, config.bootstrap),
        "notes": list(notes),
    })  # fmt: skip
    write_text(folder / "table.md", list_effects_tables(result))
    draw(result, folder)
    write_text(folder / "list-effects.json", json_text(result, indent=1) + "\n")
    return result


def request_losses(predicted: Floats, feedback: Floats) -> Floats:
    """Mean log loss [seeds, models, R] over each request's slots, in nats.

    Args:
        predicted: [seeds, models, R, S]; NaN where empty.
        feedback: [R, S]; NaN where empty.
    """
    p = np.clip(predicted, _EPSILON, 1 - _EPSILON)
    each = -(feedback * np.log(p) + (1 - feedback) * np.log1p(-p))
    real = np.isfinite(feedback)
    mean: Floats = np.where(real, each, 0.0).sum(-1) / np.maximum(real.sum(-1), 1)
    return mean


def _gain(loss: Floats, model: str, over: str, users: Ints) -> dict[str, Any]:
    """Log loss that a model saves over another one, by both sources of variance: seeds and users."""
    a, b = loss[:, MODELS.index(over)], loss[:, MODELS.index(model)]
    whole = ev.over_seeds_and_users(a, b, users)
    seeds = [ev.over_seeds_and_users(x[None], y[None], users) for x, y in zip(a, b)]
    means = [seed.mean for seed in seeds]
    return {
        "model": model,
        "over": over,
        **whole.to_dict(),
        "share": whole.mean / float(a.mean()),
        "share_low": whole.low / float(a.mean()),
        "share_high": whole.high / float(a.mean()),
        "deviation": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "by_seed": [seed.to_dict() for seed in seeds],
    }


def answer(gain: dict[str, Any]) -> str:
    """Say whether the rest of the list matters beyond items and positions.

    Args:
        gain: of the list-level model over the one of items and positions.
    """
    share, low, high = (100 * gain[k] for k in ("share", "share_low", "share_high"))
    if not np.isfinite(high):
        return (
            f"Nothing can be said of other users, as all test requests are of one or very few: the list-level "
            f"model saves {signed(share, 2)} % of log loss on theirs."
        )
    found = f"{signed(share, 2)} % of log loss ({signed(low, 2)} to {signed(high, 2)})"
    ups = sum(seed["mean"] > 0 for seed in gain["by_seed"])
    seeds = len(gain["by_seed"])
    if seeds == 1 and not gain["low"] <= 0 <= gain["high"]:
        return (
            f"One seed, so nothing is said of the models beyond these two fits: the list-level one "
            f"saves {found}, over users alone; remedy: three seeds or more (option: --seeds)."
        )
    if gain["low"] > 0 and ups == seeds:
        return f"The list matters beyond items and positions: the list-level model saves {found}."
    if gain["high"] < 0 and ups == 0:
        return (
            f"Items and positions are enough here: the list-level model only overfits, {found} "
            f"against them."
        )
    return (
        f"No effect of the list beyond items and positions is told from chance: {found}, a gain in "
        f"{ups} of {counted(seeds, 'seed')}."
    )


def _model(p: Floats, loss: Floats, shown: ShownLists) -> dict[str, Any]:
    """Log loss, and calibration by slot, of one model's seeds: p [seeds, R, S], loss [seeds, R]."""
    real = np.isfinite(shown.feedback)
    means = loss.mean(1)
    rows = [
        ev.slot_quality(np.nan_to_num(x)[..., None], np.nan_to_num(shown.feedback)[..., None], real, ("",))
        for x in p
    ]  # fmt: skip
    errors = np.array([[row["calibration_error"] for row in seed] for seed in rows])
    auc = np.array([seed[0]["auc"] for seed in rows])
    return {
        "log_loss": float(means.mean()),
        "log_loss_deviation": float(means.std(ddof=1)) if len(means) > 1 else None,
        "log_loss_by_seed": means.tolist(),
        "auc": float(auc.mean()),
        "calibration_error": float(errors[:, 0].mean()),
        "calibration_error_by_slot": errors[:, 1:].mean(0).tolist(),
        "predicted_by_slot": np.nanmean(p, axis=(0, 1)).tolist(),
    }


def _slots(shown: ShownLists, resampler: ev.Resampler) -> list[dict[str, Any]]:
    """Observed rate by slot, with intervals."""
    found = resampler.intervals(shown.feedback)
    count = np.isfinite(shown.feedback).sum(0)
    return [
        {"slot": t + 1, "lists": int(n), "observed": interval.to_dict()}
        for t, (n, interval) in enumerate(zip(count, found, strict=True))
    ]


def _swaps(shown: ShownLists, p: Floats, clusters: Ints, resamples: int) -> dict[str, Any]:
    """Swaps among lists of the same items, and of the same user too where there are users."""
    groups: dict[str, Ints | None] = {"same items": None}
    if shown.has_users:
        groups["same items and user"] = shown.users
    return {name: _of_group(shown, p, clusters, resamples, g) for name, g in groups.items()}


def _of_group(
    shown: ShownLists, p: Floats, clusters: Ints, resamples: int, group: Ints | None
) -> dict[str, Any]:
    pairs = find_swaps(shown.items, group)
    by_slot = np.bincount(pairs.upper, minlength=max(shown.items.shape[1] - 1, 0))
    out: dict[str, Any] = {
        "pairs": len(pairs),
        "requests": pairs.requests,
        "of_requests": len(shown.items),
        "enough": pairs.enough_for(clusters),
        "pairs_by_upper_slot": by_slot.tolist(),
    }
    if not out["enough"]:
        return out

    def fits(model: str, over: str | None = None) -> dict[str, Any]:
        beyond = None if over is None else p[:, MODELS.index(over)]
        found = fit_swaps(
            pairs,
            shown.feedback,
            p[:, MODELS.index(model)],
            clusters,
            beyond=beyond,
            resamples=resamples,
        )
        return {measure: fit.to_dict() for measure, fit in found.items()}

    out["models"] = {model: fits(model) for model in MODELS}
    out["contrasts"] = {f"{model} over {over}": fits(model, over) for model, over in CONTRASTS}
    return out
