"""Run of a scaling grid: one small JSON file per finished cell, so that a run can be continued."""

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
from goalrank.studies.scaling.cells import fault, read_cell
from goalrank.studies.scaling.cost import cost_of, matched_width
from goalrank.studies.scaling.data import (
    CellData,
    GivenRewardParts,
    TrueTest,
    check_inputs,
    prepare,
)
from goalrank.studies.scaling.suite import (
    ScalingCell,
    ScalingSuite,
    group_overrides,
    plan_scaling,
    steps_overrides,
)
from goalrank.training import RunOptions, check_devices
from goalrank.worlds import measure

Progress = Callable[[int, int], None]
_COUNTED = 64  # requests on which operations are counted


@dataclass(frozen=True)
class ScalingResult:
    """Number of cells of a run.

    Attributes:
        ran: cells run now.
        failed: those of them that failed.
        before: cells that were finished before.
        elsewhere: cells that other processes run.
        reasons: of failed cells of the suite, a reason per cell, those of earlier runs too.
    """

    ran: int
    failed: int
    before: int
    elsewhere: int
    reasons: tuple[str, ...]


def run_scaling(
    suite: ScalingSuite,
    out: str | Path,
    *,
    retry: bool = False,
    accelerator: str = "auto",
    progress: Progress | None = None,
) -> ScalingResult:
    """Run the cells that are missing in a folder; several processes may share it.

    A cell that diverges or is impossible is recorded as failed, with its reason. A damaged file of
    a cell counts as missing.

    Args:
        suite: the suite.
        out: the folder.
        retry: run failed cells again.
        accelerator: "cpu", "gpu" or "auto", for training.
        progress: called with (cells done, cells in all).

    Raises:
        ConfigError: the world's file is wrong, or this machine has no such accelerator.
        DataError: requests are missing, or the folder cannot be written.
    """
    folder = Path(out)
    cells = plan_scaling(suite)
    files = [folder / "cells" / f"{cell.key}.json" for cell in cells]
    if retry or any(_known(file) is None for file in files):
        check_inputs(suite)  # an error now, not one per cell
        check_devices(accelerator, "auto")
    places = {name: p.name for name in ("world", "requests") if (p := getattr(suite, name))}
    _write(folder / "scaling.json", suite.model_dump(mode="json") | places)
    ran = failed = before = elsewhere = 0
    reasons = []
    for done, (cell, file) in enumerate(zip(cells, files, strict=True)):
        if progress is not None:
            progress(done, len(cells))
        claim = Claim(folder / "claims" / f"{cell.key}.lock")
        if not claim.take():
            elsewhere += 1
            continue
        try:
            found = _known(file)
            known = found is not None and (found["status"] == "ok" or not retry)
            if found is None or not known:
                found = _run_cell(suite, cell, folder, accelerator)
        finally:
            claim.drop()
        before += known
        ran += not known
        if found["status"] != "ok":
            failed += not known
            reasons.append(str(found["reason"]))
    if progress is not None:
        progress(len(cells), len(cells))
    return ScalingResult(ran, failed, before, elsewhere, tuple(reasons))


def _known(file: Path) -> dict[str, Any] | None:
    """A finished cell; None if it is not there or damaged, so that it has to be run."""
    try:
        return read_cell(file) if file.exists() else None
    except DataError:
        return None


def _run_cell(
    suite: ScalingSuite, cell: ScalingCell, folder: Path, accelerator: str
) -> dict[str, Any]:
    start = time.perf_counter()
    work = folder / "work" / cell.key  # parts of this ranker only; shared ones are kept
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
        if (wrong := fault(facts | found)) is not None:
            found = {"status": "failed", "reason": wrong}
    except (FloatingPointError, GoalRankError, MemoryError, torch.cuda.OutOfMemoryError) as error:
        found = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    shutil.rmtree(work, ignore_errors=True)
    seconds = time.perf_counter() - start
    found = {**facts, **found, "seconds": seconds}
    _write(folder / "cells" / f"{cell.key}.json", found)
    return found


def _measured(
    suite: ScalingSuite, cell: ScalingCell, folder: Path, work: Path, accelerator: str
) -> dict[str, Any]:
    ready = prepare(suite, cell, accelerator)
    options = RunOptions(folder, progress=False, accelerator=accelerator)
    parts = GivenRewardParts(folder, ready.data, options, scratch=work)
    parts.given = ready.teacher
    recipe = merge(suite.recipe, steps_overrides(suite, cell.data))
    builder = RowBuilder(parts, merge(recipe, {"ranker": {"slots": ready.slots}}))
    config = builder.config(cell.row, cell.size.ranker, group_overrides(suite, cell))
    row = cell.row
    if row.name == "mg_e_copies" and "width" not in row.options:
        base, layers = str(row.options.get("base", "generator")), int(row.options.get("layers", 1))
        one = config.ranker.model_copy(update={"name": "goalrank"})
        width = matched_width(parts.data.spec, one, base, layers, int(row.options.get("k", 3)))
        row = row.model_copy(update={"options": {**row.options, "width": width}})
    ranker = next(iter(builder.fit(row, config, cell.seed).values())).cpu()
    cost = cost_of(
        ranker, ready.data.train.batch(slice(0, _COUNTED)), ready.slots,
        group=cell.group, steps=config.training.steps, batch_size=config.training.batch_size,
    )  # fmt: skip
    device = on_device(options)
    quality = _on_requests(ranker, ready, device)
    if ready.true_test is not None:
        quality |= _on_world(suite, cell, builder, ranker, ready, ready.true_test, device)
    facts = {
        "steps": config.training.steps,
        "scorer": ranker.scores_candidates,
        "choices": _choices(ranker, ready),
    }
    return {**facts, **asdict(cost), **quality}


def _choices(ranker: Ranker, ready: CellData) -> int:
    """Count the lists that an evaluator chooses from, with repeats; 1 without an evaluator."""
    return ranker.pool_size(ready.data.test.batch(slice(0, 1)), ready.slots)


def _on_requests(ranker: Ranker, ready: CellData, device: torch.device) -> dict[str, float]:
    """Measure NDCG on logged feedback; 1 − NDCG is the loss on real data."""
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
    ranker: Ranker,
    ready: CellData,
    true_test: TrueTest,
    device: torch.device,
) -> dict[str, Any]:
    """Measure regret on the test requests of a world, split in two where a reward model is used."""
    test = ready.data.test
    best = true_test.truth.best
    whole = measure(true_test.meter.evaluate(ranker, None, test, device=device).reward, best)
    out = {f"true_{name}": value for name, value in asdict(whole).items()}
    out |= {"loss": whole.regret, "regret": whole.regret, "best": float(best.mean())}
    if suite.split and cell.row.rewarded and ready.teacher is None:
        reward = builder.parts.reward(builder.helpers(cell.row), cell.seed, cell.row.bias)
        few = test.take(slice(0, min(suite.split, len(test))))
        judged = true_test.meter.evaluate(ranker, reward, few, lists=16, device=device)
        if judged.found is not None:
            out["policy_error"] = float((judged.found - judged.reward).mean())
            out["reward_error"] = float((best[: len(few)] - judged.found).mean())
        for which, each in judged.correlation.items():
            if math.isfinite(each["spearman"].mean):  # NaN if all lists of a request are the same
                out[f"correlation_{which}"] = each["spearman"].mean
    return out


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1))
