"""Run of a study of list effects, seed by seed; a killed run goes on with the first missing model.

OUT/ledger/seed-S.parquet holds what the three models of a seed predict for the test requests; it is
written whole. OUT/work holds checkpoints and is removed when a seed ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError
from goalrank.storage import holding, whole_file, write_text
from goalrank.studies.list_effects.data import (
    StudyData,
    Tables,
    feedback_by_slot,
    prepare,
    study_tables,
    tables_digest,
)
from goalrank.studies.list_effects.models import ITEMS, MODELS, fit_model, predict, study_recipe
from goalrank.studies.list_effects.recalibration import fit_recalibration
from goalrank.studies.list_effects.report import report_list_effects
from goalrank.studies.list_effects.settings import ListEffectsConfig
from goalrank.training import DataFacts, Job, RunOptions, resolved
from goalrank.wording import counted

Progress = Callable[[int, int], None]
Say = Callable[[str], None]
_BLIND = (
    "reward.layers = 0: no attention among candidates, which would show the item-wise model its "
    "neighbours"
)
_LEVELS = (
    "after fitting, the logits of every model are scaled and shifted on {part}, by slot where it "
    "knows the slot"
)


def run_list_effects(
    tables: Tables,
    config: ListEffectsConfig,
    out: str | Path,
    *,
    name: str | None = None,
    accelerator: str = "cpu",
    progress: Progress | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Fit the models that are missing in the folder, then write tables and figures.

    Args:
        tables: requests by part: train, test and, where there is one, validation.
        config: the study.
        out: its folder.
        name: of the data in table and figures; None takes the tables' own.
        accelerator: "cpu", "gpu" or "auto", for training.
        progress: called with (models fitted, models in all).
        say: told what was decided.

    Returns:
        The content of list-effects.json, see `report_list_effects`.

    Raises:
        ConfigError: the folder holds another study, or a setting does not fit the log.
        DataError: the log has no lists, no order of them, or no feedback.
    """
    folder = Path(out)
    parts, said = study_tables(tables, config)
    data = prepare(parts, config)
    notes = [said, *data.notes, _BLIND, _decided(data, config), _levels(data)]
    for note in notes:
        if say is not None:
            say(note)
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder / ".lock"):
        _claim(config, tables_digest(parts), folder)
        predicted = []
        for done, seed in enumerate(config.seeds):
            predicted.append(_seed(data, config, folder, seed, accelerator, done, progress))
        shutil.rmtree(folder / "work", ignore_errors=True)
        title = name or tables["train"].info.dataset
        return report_list_effects(
            folder, title, data, np.stack(predicted), config, _sizes(data), notes
        )


def _decided(data: StudyData, config: ListEffectsConfig) -> str:
    """What the training requests decided."""
    facts = DataFacts.of(data.spec, data.train)
    reward = resolved(config.fit, facts).reward
    return (
        f"reward.id_dropout = {reward.id_dropout}, reward.loop.steps = {reward.loop.steps} at most "
        f"for {counted(facts.requests, 'training request')}"
    )


def _levels(data: StudyData) -> str:
    return _LEVELS.format(part="validation" if data.validation is not None else "training")


def _sizes(data: StudyData) -> dict[str, int]:
    held = 0 if data.validation is None else len(data.validation)
    return {"train": len(data.train), "validation": held, "test": len(data.test)}


def _claim(config: ListEffectsConfig, digest: str, folder: Path) -> None:
    """Write settings and data into the folder; refuse a folder of another study."""
    record = folder / "config.json"
    content = config.model_dump(mode="json", exclude={"seeds", "bootstrap"}) | {"requests": digest}
    text = json.dumps(content, indent=1)
    if not record.exists():
        write_text(record, text + "\n")
    elif json.loads(record.read_text("utf-8")) != json.loads(text):
        raise ConfigError(
            f"'{folder}' holds a study with other settings or other requests; remedy: the same "
            f"ones, or a new folder (option: --out)"
        )


def _seed(
    data: StudyData,
    config: ListEffectsConfig,
    folder: Path,
    seed: int,
    accelerator: str,
    done: int,
    progress: Progress | None,
) -> NDArray[np.float32]:
    """Predictions [models, R, S] of one seed, from the ledger or by fitting."""
    file = folder / "ledger" / f"seed-{seed}.parquet"
    work = folder / "work" / f"seed-{seed}"
    total = len(config.seeds) * len(MODELS)
    if not file.exists():
        write_text(folder / "work" / ".gitignore", "*\n")  # checkpoints hold paths of this machine
        options = RunOptions(work, resume=True, progress=False, accelerator=accelerator)
        recipe = study_recipe(config.fit, data.kind, seed)
        job = Job(data.spec, data.train, data.validation, recipe, options)
        columns = {}
        for i, model in enumerate(MODELS):
            columns[model] = _predictions(data, job, model)
            _tell(progress, done * len(MODELS) + i + 1, total)
        _write(file, columns)
        shutil.rmtree(work, ignore_errors=True)
    else:
        _tell(progress, (done + 1) * len(MODELS), total)
    frame = pl.read_parquet(file, glob=False)
    return np.stack([frame[model].to_numpy() for model in MODELS])


def _predictions(data: StudyData, job: Job, model: str) -> NDArray[np.float32]:
    """Probabilities [R, S] for the test requests, recalibrated."""
    fitted = fit_model(job, model)
    held = data.train if data.validation is None else data.validation
    predicted = predict(fitted, data.test)
    corrected = fit_recalibration(
        predict(fitted, held).astype(np.float64),
        feedback_by_slot(held, data.kind),
        predicted.shape[1],
        by_slot=model != ITEMS,
    )
    return corrected(predicted.astype(np.float64)).astype(np.float32)


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _write(file: Path, columns: dict[str, NDArray[np.float32]]) -> None:
    frame = pl.DataFrame(columns)
    with whole_file(file) as temporary:
        frame.write_parquet(temporary)
