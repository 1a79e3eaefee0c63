"""Data sets of suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from goalrank.requests import EncoderConfig
from goalrank.studies.common.datasets import load_data
from goalrank.studies.common.suite import DatasetSpec
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
