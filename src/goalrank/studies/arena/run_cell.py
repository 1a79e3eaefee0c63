"""Run of one cell: tune, fit, measure on the test requests and record the result or the failure."""

from __future__ import annotations

import json
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goalrank.errors import DataError, GoalRankError
from goalrank.evaluation import METRICS, Evaluation, evaluate
from goalrank.rankers import Ranker
from goalrank.requests import EncoderConfig
from goalrank.studies.arena.ledger import (
    BASELINE_PREFIX,
    Ledger,
    Values,
    cell_facts,
    failure,
    mean_of_defined,
    provenance,
)
from goalrank.studies.arena.tuning import apply, tune
from goalrank.studies.common import (
    Cell,
    EncodedDataset,
    FittedParts,
    RowBuilder,
    Suite,
    load_data,
    module_parameters,
    on_device,
)
from goalrank.training import FitConfig, RunOptions

_data: dict[str, EncodedDataset] = {}  # the last data set: cells of one data set follow one another


def run_cell(suite: Suite, cell: Cell, folder: Path, accelerator: str) -> str:
    """Run a cell and write its rows.

    Any error in the cell is recorded as the reason of its failure; only what ends the process (a
    kill, Ctrl-C) leaves the cell unfinished.

    Args:
        suite: the suite.
        cell: the cell.
        folder: of the suite.
        accelerator: "auto", "cpu" or "gpu".

    Returns:
        "ok" or "failed".
    """
    start = time.perf_counter()
    ledger = Ledger(folder)
    _reset_peak_memory()
    try:
        rows, values = _measured(suite, cell, folder, accelerator, start)
    except GoalRankError as error:
        return _failed(ledger, suite, cell, f"{type(error).__name__}: {error}", start)
    except FloatingPointError as error:
        return _failed(ledger, suite, cell, f"diverged: {error}", start)
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        torch.cuda.empty_cache()
        return _failed(ledger, suite, cell, f"out of memory: {error}", start)
    except Exception as error:
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return _failed(ledger, suite, cell, f"{type(error).__name__} in {where}: {error}", start)
    ledger.write(cell, rows, values)
    return "ok"


def _failed(ledger: Ledger, suite: Suite, cell: Cell, reason: str, start: float) -> str:
    ledger.write(cell, [failure(suite.name, cell, reason, time.perf_counter() - start)])
    return "failed"


def _measured(
    suite: Suite, cell: Cell, folder: Path, accelerator: str, start: float
) -> tuple[list[dict[str, Any]], Values]:
    data = _load(folder, cell, suite.encoding(cell.row))
    options = RunOptions(folder, progress=False, accelerator=accelerator)
    parts = FittedParts(folder, data, options)
    recipe = suite.whole_recipe()
    tuned = tune(suite, cell, parts, recipe)
    row, over = apply(cell.row, tuned["best"])
    builder = RowBuilder(parts, recipe)
    config = builder.resolved(builder.config(row, cell.size.ranker, over))
    rankers = builder.fit(row, config, cell.seed)
    device = on_device(options)
    for ranker in rankers.values():
        ranker.to(device)
    found = evaluate(
        rankers, data.test, slots=suite.slots, metrics=suite.metrics, bootstrap=1, device=device
    )
    _refuse_nan(found)
    held = _on_validation(rankers, data, suite, device)
    common = {
        **cell_facts(suite.name, cell),
        **_settings(data, config, tuned, suite.slots),
        **_costs(rankers, parts, device, start),
        "status": "ok",
        "reason": None,
        "test_scored": found.n,
        "test_excluded": found.excluded,
        "kept": None if row.is_composite else parts.kept.get(row.name),
    }
    values = Values(found.rows, data.test.user[found.rows].astype(np.int64), found.values)
    rows = [
        {**common, **_means(found, name, cell), "validation": held.get(name)} for name in rankers
    ]
    return rows, values


def _on_validation(
    rankers: dict[str, Ranker], data: EncodedDataset, suite: Suite, device: torch.device | str
) -> dict[str, float]:
    """The suite's metric on the validation requests, which may choose; none without positives."""
    try:
        found = evaluate(
            rankers, data.validation, slots=suite.slots, metrics=[suite.metric], bootstrap=1,
            device=device,
        )  # fmt: skip
    except DataError:
        return {}
    return {
        name: mean_of_defined(value)
        for name, each in found.values.items()
        for value in each.values()
    }


def _settings(
    data: EncodedDataset, config: FitConfig, tuned: dict[str, Any], slots: int
) -> dict[str, Any]:
    """List the facts that the result depends on."""
    return {
        **provenance(),
        **data.sizes(),
        "tables": json.dumps(data.tables),
        "protocol": data.info.protocol,
        "log": data.info.dataset,
        "warning": data.info.warning,
        "slots": slots,
        "steps": config.training.steps,
        "width": config.ranker.sizes().width,
        "settings": config.model_dump_json(),
        "tuning": json.dumps(tuned),
        "trials": tuned["budget"],
    }


def _costs(
    rankers: dict[str, Ranker], parts: FittedParts, device: torch.device, start: float
) -> dict[str, Any]:
    """List the costs of the result."""
    all_parameters, without_ids = module_parameters(rankers)
    return {
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "seconds": time.perf_counter() - start,
        "training_seconds": sum(parts.seconds.values()),
        "parts": json.dumps(parts.seconds),
        "parameters": all_parameters,
        "parameters_beside_ids": without_ids,
        "peak_memory_mb": _peak_memory(device),
    }


def _means(found: Evaluation, name: str, cell: Cell) -> dict[str, Any]:
    means = {metric: mean_of_defined(v) for metric, v in found.values[name].items()}
    label = f"{BASELINE_PREFIX}{name}" if cell.row.name == "baselines" else name
    return {"ranker": label, "column": name, "ms_per_request": found.milliseconds(name), **means}


def _refuse_nan(found: Evaluation) -> None:
    """Refuse infinite values, and NaN of metrics that are defined for every scored request."""
    for name, each in found.values.items():
        bad = [
            metric
            for metric, values in each.items()
            if np.isinf(values).any()
            or (metric.partition("@")[0] in METRICS.builtin_names and np.isnan(values).any())
        ]
        if bad:
            raise FloatingPointError(f"{bad} of '{name}' are not numbers")


def _load(folder: Path, cell: Cell, encoding: EncoderConfig) -> EncodedDataset:
    key = cell.dataset.model_dump_json() + encoding.model_dump_json()
    if key not in _data:
        _data.clear()
        _data[key] = load_data(folder, cell.dataset, encoding)
    return _data[key]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _reset_peak_memory() -> None:
    """Reset the peak of memory, as a worker runs many cells."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory(device: torch.device) -> float | None:
    """Peak of memory in MiB since `_reset_peak_memory`, of the GPU or else of the process.

    If the system cannot reset the peak, it is that of the worker over all its cells; None if the
    system does not know it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    try:
        import resource  # not on every system
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
