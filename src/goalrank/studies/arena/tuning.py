"""Tuning: the same number of trials on validation requests for every row.

Settings are drawn at random (Bergstra & Bengio, 2012) from a space of learning rate, width, dropout
and two or three settings of the row itself; the first trial is always the recipe. Test requests are
never used.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import Any

import numpy as np

from goalrank.errors import GoalRankError
from goalrank.evaluation import evaluate
from goalrank.requests import EncodedRequests
from goalrank.settings import merge
from goalrank.storage import holding, write_text
from goalrank.studies.arena.ledger import mean_of_defined
from goalrank.studies.common import (
    Cell,
    EncodedDataset,
    FittedParts,
    RowBuilder,
    RowSpec,
    Suite,
    json_hash,
    on_device,
)

Knobs = dict[str, tuple[Any, ...]]
_NET: Knobs = {
    "set.training.lr": (3e-4, 5e-4, 1e-3, 2e-3, 3e-3),
    "set.ranker.dropout": (0.0, 0.1, 0.2, 0.3),
}
_PLAIN: Knobs = {"set.training.weight_decay": (1e-3, 1e-2, 1e-1), "set.ranker.layers": (1, 2)}
_OWN: dict[str, Knobs] = {
    "lambdamart": {
        "options.leaves": (15, 31, 63),
        "options.learning_rate": (0.02, 0.05, 0.1),
        "options.min_leaf": (10, 20, 50),
    },
    "xgboost": {
        "options.leaves": (15, 31, 63),
        "options.learning_rate": (0.02, 0.05, 0.1),
        "options.min_weight": (1.0, 5.0, 20.0),
    },
    "linear": {"options.ridge": (0.3, 3.0, 30.0)},
    "mmr": {"options.trade": (0.5, 0.7, 0.8, 0.9, 0.95)},
    "dpp": {"options.theta": (0.5, 1.0, 2.0, 5.0, 10.0)},
    "nar4rec": {
        "options.contrast": (0.0, 0.05, 0.1, 0.2),
        "options.unlikelihood": (0.3, 1.0, 3.0),
    },
    "pier": {
        "options.keep": (10, 20, 40),
        "options.spread": (0.1, 0.3, 1.0),
        "options.contrast": (0.03, 0.1, 0.3),
    },
    "prs": {"options.alpha": (0.25, 0.5, 1.0), "options.beta": (0.5, 1.0, 2.0)},
    "rankmixer": {"options.ratio": (2, 4, 8), "set.ranker.layers": (1, 2)},
    "egrank": {"task.clip": (0.1, 0.2, 0.3), "task.lists": (2, 4, 8)},
    "nlgr": {"task.lists": (2, 4, 8), "task.others": (4, 7, 12)},
    "goalrank": {
        "set.objective.temperature": (0.1, 0.3, 1.0),
        "set.objective.supervised": (0.0, 0.3, 1.0),
        "set.reward.observed": (0.0, 1.0, 2.0),
    },
    "best_of": {"options.temperature": (0.5, 1.0, 2.0), **_PLAIN},
    "dcn_v2": {"options.crosses": (1, 2, 3), "set.ranker.layers": (1, 2)},
    "mmr_learned": {"options.trade": (0.7, 0.8, 0.9, 0.95), **_PLAIN},
    "dpp_learned": {"options.theta": (1.0, 2.0, 5.0, 10.0), **_PLAIN},
    "clig": {"options.weight": (0.3, 1.0, 3.0), **_PLAIN},
    "evaluator_sort": {},
    "baselines": {},
}
_WITHOUT_NET = ("lambdamart", "xgboost", "linear", "mmr", "dpp", "evaluator_sort", "baselines")
_NARROWEST = 8  # least width of a ranker
_MOST_COPIES = 3  # generators in trials of multi-generators; their best settings serve every k


def space(row: RowSpec, width: int, sized: bool) -> Knobs:
    """List the settings that can be drawn for a row; settings of the row itself are left out.

    Args:
        row: the row.
        width: of the recipe; it and its half are tried.
        sized: whether the suite sets the size, so that the width stays.

    Returns:
        Dotted name → values.
    """
    if row.name in _WITHOUT_NET:
        return dict(_OWN[row.name])
    knobs = {**_NET, **_OWN.get(row.name, _PLAIN)}
    if not sized and row.name != "mg_e_copies":
        knobs["set.ranker.width"] = (max(width // 2, _NARROWEST), width)
    return {name: values for name, values in knobs.items() if not _fixed(row.set, name)}


def _fixed(settings: object, name: str) -> bool:
    """Whether the row's own settings have a value for this dotted name."""
    for part in name.split(".")[1:]:
        if not isinstance(settings, dict) or part not in settings:
            return False
        settings = settings[part]
    return True


def draw(knobs: Knobs, trials: int, seed: int) -> list[dict[str, Any]]:
    """Draw the settings of each trial; equal arguments give equal settings.

    Args:
        knobs: of `space`.
        trials: number of trials.
        seed: of the draws.

    Returns:
        Dotted name → value per trial; the first trial has none.
    """
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = [{}]
    for _ in range(1, trials):
        out.append({name: each[int(rng.integers(len(each)))] for name, each in knobs.items()})
    return out[:trials]


def apply(row: RowSpec, settings: dict[str, Any]) -> tuple[RowSpec, dict[str, Any]]:
    """Apply drawn settings to a row.

    Args:
        row: the row.
        settings: of `draw`.

    Returns:
        The row with drawn `options` and `task`, and overrides of the recipe.
    """
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        *path, last = name.split(".")
        inner = {last: value}
        for part in reversed(path):
            inner = {part: inner}
        nested = merge(nested, inner)
    changes = {
        "options": {**row.options, **nested.get("options", {})},
        "task": {**row.task, **nested.get("task", {})},
    }
    return row.model_copy(update=changes), nested.get("set", {})


def tune(suite: Suite, cell: Cell, parts: FittedParts, recipe: dict[str, Any]) -> dict[str, Any]:
    """Tune a row on a data set, or read the trials that were made before.

    Args:
        suite: gives trials and metric.
        cell: gives row, data set and size.
        parts: fitted models of the data set.
        recipe: of the suite, as nested dictionaries.

    Returns:
        {"budget", "best": settings, "trials": [{"settings", "score", "seconds", "reason"}]}; a
        budget of 0 if there is nothing to tune.
    """
    width = suite.base().ranker.sizes().width
    knobs = space(cell.row, width, bool(cell.size.ranker))
    if suite.tuning.trials == 0 or not knobs:
        return {"budget": 0, "best": {}, "trials": []}
    row = _without_k(cell.row)
    identity = [
        row.model_dump(mode="json", exclude={"label"}),
        cell.size.ranker,
        suite.tuning.model_dump(),
        suite.metric,
        recipe,
    ]
    place = parts.folder / "shared" / "tuning" / parts.file_name(row.name, identity)
    kept = place.with_name(f"{place.name}.json")
    with holding(place.with_name(f"{place.name}.lock")):
        if not kept.exists():
            trial_parts = replace(
                parts, data=_part(suite, parts), scratch=place, keep_members=False, seconds={}
            )
            builder = RowBuilder(trial_parts, recipe)
            trials = [
                _trial(suite, row, cell, builder, settings)
                for settings in draw(knobs, suite.tuning.trials, suite.tuning.seed)
            ]
            scores = [-np.inf if t["score"] is None else t["score"] for t in trials]
            best = trials[int(np.argmax(scores))]["settings"]
            content = {"budget": suite.tuning.trials, "best": best, "trials": trials}
            write_text(kept, json.dumps(content, indent=1))
            shutil.rmtree(place, ignore_errors=True)  # weights of trials
        return dict(json.loads(kept.read_text()))


def _without_k(row: RowSpec) -> RowSpec:
    if row.name not in ("mg_e", "mg_e_copies"):
        return row
    k = min(int(row.options.get("k", _MOST_COPIES)), _MOST_COPIES)
    return row.model_copy(update={"options": {**row.options, "k": k}})


def _part(suite: Suite, parts: FittedParts) -> EncodedDataset:
    """Select the training and validation requests of the trials."""
    tuning, data = suite.tuning, parts.data
    train = _some(data.train, tuning.requests, tuning.seed)
    held = _some(data.validation, tuning.validation, tuning.seed)
    key = json_hash([data.key, "tuning", tuning.requests, tuning.validation, tuning.seed])
    return replace(data, key=key, train=train, validation=held)


def _some(columns: EncodedRequests, most: int, seed: int) -> EncodedRequests:
    if most == 0 or len(columns) <= most:
        return columns
    rows = np.random.default_rng(seed).choice(len(columns), most, replace=False)
    return columns.take(np.sort(rows))


def _trial(
    suite: Suite, row: RowSpec, cell: Cell, builder: RowBuilder, settings: dict[str, Any]
) -> dict[str, Any]:
    """Fit with drawn settings and measure on validation; a trial that fails has no score."""
    start = time.perf_counter()
    tried, over = apply(row, settings)
    if suite.tuning.steps is not None:
        over = merge({"training": {"steps": suite.tuning.steps}}, over)
    score, reason = None, None
    try:
        config = builder.config(tried, cell.size.ranker, over)
        rankers = builder.fit(tried, config, suite.tuning.seed)
        device = on_device(builder.parts.options)
        for ranker in rankers.values():
            ranker.to(device)
        found = evaluate(
            rankers, builder.parts.data.validation, slots=suite.slots, metrics=(suite.metric,),
            bootstrap=1, device=device,
        )  # fmt: skip
        values = found.values[tried.label].get(found.metric_name(suite.metric), np.array([np.nan]))
        score = mean_of_defined(values)
        if np.isnan(score):
            score, reason = None, f"{suite.metric} of this row is defined for no validation request"
    except (GoalRankError, FloatingPointError) as error:
        reason = f"{type(error).__name__}: {error}"[:500]
    seconds = round(time.perf_counter() - start, 3)
    return {"settings": settings, "score": score, "seconds": seconds, "reason": reason}
