"""Data sets of suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from goalrank.requests import EncoderConfig
from goalrank.studies.common import datasets, fitted_parts
from goalrank.studies.common.datasets import load_data
from goalrank.studies.common.fitted_parts import FittedParts
from goalrank.studies.common.suite import DatasetSpec
from goalrank.training import RunOptions
from tests.tables import make_table

pytest.importorskip("lightgbm", reason="extra trees: lightgbm")


def test_without_trees_other_models_are_kept_and_a_warning_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of models fitted with the scores of trees must not serve for models without."""
    for seed, (part, rows) in enumerate((("train", 1500), ("validation", 20), ("test", 20))):
        made = make_table(rows, seed=seed, users=60, warning="planted data")
        made.write(tmp_path / f"{part}.parquet")
    dataset = DatasetSpec(name="planted", source="requests", path=str(tmp_path))
    whole = load_data(tmp_path, dataset, EncoderConfig())
    assert whole.spec.model_scores == whole.test.model_scores == 2
    assert whole.info.warning == "planted data"
    monkeypatch.setattr("goalrank.encoders.tree_scores.has_boosting", lambda: False)
    bare = load_data(tmp_path, dataset, EncoderConfig())
    assert bare.spec.model_scores == bare.test.model_scores == 0
    assert bare.key != whole.key
    assert str(bare.info.warning).startswith("planted data; tree scores: left out")
    asked = load_data(tmp_path, dataset, EncoderConfig(tree_folds=0))
    assert asked.info.warning == "planted data"


def _planted(folder: Path, seed: int) -> DatasetSpec:
    for place, (part, rows) in enumerate((("train", 40), ("validation", 20), ("test", 20))):
        make_table(rows, seed=seed + place, users=60).write(folder / f"{part}.parquet")
    return DatasetSpec(name="planted", source="requests", path=str(folder))


def test_models_of_other_tables_in_the_same_folder_have_other_keys(tmp_path: Path) -> None:
    none = EncoderConfig(tree_folds=0)
    first = load_data(tmp_path, _planted(tmp_path, 0), none)
    again = load_data(tmp_path, _planted(tmp_path, 0), none)
    other = load_data(tmp_path, _planted(tmp_path, 5), none)
    assert again.key == first.key
    assert other.key != first.key


def test_other_code_imports_and_fits_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier version imported or trained must not stand for what this one does."""
    imports: list[Path] = []

    def write(_: object, place: Path) -> None:
        imports.append(place)
        _planted(place, 0)
        (place / "import.json").write_text("{}")

    monkeypatch.setattr(datasets, "import_log", lambda *_: None)
    monkeypatch.setattr(datasets, "write_import", write)
    log = DatasetSpec(name="planted", source="movielens", path=str(tmp_path))
    names, none = [], EncoderConfig(tree_folds=0)
    for code in ("old", "old", "new"):
        for module in (datasets, fitted_parts):
            monkeypatch.setattr(module, "source_digest", lambda code=code: code)
        data = load_data(tmp_path, log, none)
        parts = FittedParts(tmp_path, data, RunOptions(folder=tmp_path))
        names.append(parts.file_name("tests.plugins:Mine", {"width": 8}))
    assert len(imports) == len(set(imports)) == 2
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("tests.plugins.Mine.")
