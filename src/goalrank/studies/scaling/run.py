"""Runs a scaling grid: one small JSON file a finished cell, so that a run can go on anywhere."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from goalrank.errors import DataError, GoalRankError
from goalrank.evaluation import evaluate
from goalrank.rankers import Ranker
from goalrank.settings import merge
from goalrank.storage import Claim, write_text
from goalrank.studies.common import RowBuilder, on_device
from goalrank.studies.scaling.cost import cost_of, matched_width
from goalrank.studies.scaling.data import Prepared, TruthCache, prepare
from goalrank.studies.scaling.suite import (
    ScalingCell,
    ScalingSuite,
    group_overrides,
    plan_scaling,
    steps_overrides,
)
from goalrank.training import FitConfig, RunOptions
from goalrank.worlds import measure

Progress = Callable[[int, int], None]
_COUNTED = 64  # requests that operations are counted on


@dataclass(frozen=True)
class ScalingDone:
    """Cells run now, those of them that failed, those there before, those taken by others."""

    ran: int
    failed: int
    before: int
    elsewhere: int


def run_scaling(
    suite: ScalingSuite,
    out: str | Path,
    *,
    retry: bool = False,
    accelerator: str = "auto",
    progress: Progress | None = None,
) -> ScalingDone:
    """Run the cells that the folder does not hold yet; several processes may share a folder.

    A cell that diverges or cannot be had is written down with its reason.

    Args:
        retry: run failed cells again.
        progress: called with (cells done, cells in all).
    """
    folder = Path(out)
    cells = plan_scaling(suite)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    places = {name: p.name for name in ("world", "requests") if (p := getattr(suite, name))}
    _write(folder / "scaling.json", suite.model_dump(mode="json") | places)
    ran = failed = before = elsewhere = 0
    for done, cell in enumerate(cells):
        if progress is not None:
            progress(done, len(cells))
        claim = Claim(folder / "claims" / f"{cell.key}.lock")
        if not claim.take():
            elsewhere += 1
            continue
        try:
            if _finished(folder, cell, retry):
                before += 1
                continue
            status = _run_cell(suite, cell, folder, accelerator)
        finally:
            claim.drop()
        ran += 1
        failed += status == "failed"
    if progress is not None:
        progress(len(cells), len(cells))
    return ScalingDone(ran, failed, before, elsewhere)


def read_cells(folder: str | Path) -> list[dict[str, Any]]:
    """Finished cells of a folder, in the order of their names.

    Raises:
        DataError: there is none, or a file is damaged.
    """
    files = sorted((Path(folder) / "cells").glob("*.json"))
    if not files:
        raise DataError(
            f"'{folder}' holds no finished cell; remedy: goalrank scaling run SUITE --out {folder}"
        )
    out = []
    for file in files:
        try:
            out.append(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(
                f"cell '{file}' cannot be read ({error}); remedy: remove it and run again"
            ) from error
    return out


def _finished(folder: Path, cell: ScalingCell, retry: bool) -> bool:
    file = folder / "cells" / f"{cell.key}.json"
    if not file.exists():
        return False
    return not retry or json.loads(file.read_text("utf-8"))["status"] == "ok"


def _run_cell(suite: ScalingSuite, cell: ScalingCell, folder: Path, accelerator: str) -> str:
    start = time.perf_counter()
    work = folder / "work" / cell.key  # the ranker's own parts; shared ones are kept
    facts: dict[str, Any] = {
        "suite": suite.name,
        "source": cell.source,
        "ranker": cell.row.label,
        "method": cell.row.name,
        "size": cell.size.name,
        "data": cell.data,
        "group": cell.group,
        "seed": cell.seed,
        "teacher": suite.teacher,
    }
    try:
        found = {
            "status": "ok",
            "reason": None,
            **_measured(suite, cell, folder, work, accelerator),
        }
    except (FloatingPointError, GoalRankError, MemoryError, torch.cuda.OutOfMemoryError) as error:
        found = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    shutil.rmtree(work, ignore_errors=True)
    seconds = time.perf_counter() - start
    _write(folder / "cells" / f"{cell.key}.json", {**facts, **found, "seconds": seconds})
    return str(found["status"])


def _measured(
    suite: ScalingSuite, cell: ScalingCell, folder: Path, work: Path, accelerator: str
) -> dict[str, Any]:
    ready = prepare(suite, cell, accelerator)
    options = RunOptions(folder, progress=False, accelerator=accelerator)
    lab = TruthCache(folder, ready.data, options, scratch=work)
    lab.given = ready.teacher
    recipe = merge(suite.recipe, steps_overrides(suite, cell.data))
    builder = RowBuilder(lab, merge(recipe, {"ranker": {"slots": ready.slots}}))
    config = builder.config(cell.row, cell.size.ranker, group_overrides(suite, cell))
    row = cell.row
    if row.name == "mg_e_copies" and "width" not in row.options:
        base, layers = str(row.options.get("base", "generator")), int(row.options.get("layers", 1))
        one = config.ranker.model_copy(update={"name": "goalrank"})
        width = matched_width(lab.data.spec, one, base, layers, int(row.options.get("k", 3)))
        row = row.model_copy(update={"options": {**row.options, "width": width}})
    ranker = next(iter(builder.fit(row, config, cell.seed).values())).cpu()
    cost = cost_of(
        ranker, ready.data.train.batch(slice(0, _COUNTED)), ready.slots,
        group=cell.group, steps=config.training.steps, batch_size=config.training.batch_size,
    )  # fmt: skip
    device = on_device(options)
    quality = _on_requests(ranker, ready, device)
    if ready.judge is not None:
        quality |= _on_world(suite, cell, builder, config, ranker, ready, device)
    facts = {
        "steps": config.training.steps,
        "scorer": ranker.scores_candidates,
        "choices": _choices(ranker, ready),
    }
    return {**facts, **asdict(cost), **quality}


def _choices(ranker: Ranker, ready: Prepared) -> int:
    """Lists that an evaluator chooses from, repeats counted; 1 where the ranker makes its list."""
    return ranker.pool_size(ready.data.test.batch(slice(0, 1)), ready.slots)


def _on_requests(ranker: Ranker, ready: Prepared, device: torch.device) -> dict[str, float]:
    """Quality on logged feedback; its distance from 1 is the loss on real data."""
    ranker.to(device)
    metrics = ("ndcg",)
    found = evaluate({"it": ranker}, ready.data.test, slots=ready.slots, metrics=metrics,
                     bootstrap=1, device=device)  # fmt: skip
    name, interval = next(iter(found.summaries["it"].items()))
    return {"loss": 1.0 - interval.mean, name: interval.mean}


def _on_world(
    suite: ScalingSuite,
    cell: ScalingCell,
    builder: RowBuilder,
    config: FitConfig,
    ranker: Ranker,
    ready: Prepared,
    device: torch.device,
) -> dict[str, Any]:
    """Regret on the world's test requests, in two parts where a learned reward taught or chose."""
    assert ready.judge is not None
    assert ready.truth is not None
    test = ready.data.test
    best = ready.truth.best
    whole = measure(ready.judge.evaluate(ranker, None, test, device=device).reward, best)
    out = {f"true_{name}": value for name, value in asdict(whole).items()}
    out |= {"loss": whole.regret, "regret": whole.regret, "best": float(best.mean())}
    if suite.split and cell.row.rewarded and ready.teacher is None:
        reward = builder.lab.reward(builder.helpers(cell.row), cell.seed, cell.row.bias)
        few = test.take(slice(0, min(suite.split, len(test))))
        judged = ready.judge.evaluate(ranker, reward, few, lists=16, device=device)
        assert judged.found is not None
        out["policy_error"] = float((judged.found - judged.reward).mean())
        out["reward_error"] = float((best[: len(few)] - judged.found).mean())
        for which, each in judged.correlation.items():
            if math.isfinite(each["spearman"].mean):  # not where all lists of a request are one
                out[f"correlation_{which}"] = each["spearman"].mean
    return out


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1))
