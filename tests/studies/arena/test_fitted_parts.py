"""Parts of a cell: what they have in common is computed once."""

from __future__ import annotations

import time

from goalrank.encoders import solve_logit
from goalrank.studies.common import FittedParts, RowBuilder, RowSpec, load_data, standard_rows
from goalrank.training import Job, RunOptions
from tests.studies.arena.kit import make_suite


def test_the_parts_of_a_row_share_their_linear_solutions(data, tmp_path, monkeypatch):
    suite = make_suite(data, ["goalrank"])
    encoded = load_data(tmp_path, suite.datasets[0], suite.base().encoder)
    options = RunOptions(tmp_path, progress=False, accelerator="cpu")
    builder = RowBuilder(FittedParts(tmp_path, encoded, options), suite.whole_recipe())
    row = RowSpec.model_validate(standard_rows()["goalrank"])
    solved = []

    def solve(table, **choice):
        solved.append(choice["use"])
        return solve_logit(table, **choice)

    monkeypatch.setattr("goalrank.training.linear_start.solve_logit", solve)
    config = builder.config(row, {}, {})
    builder.fit(row, config, seed=0)
    kinds = len(config.reward.kinds or encoded.train.kinds)
    print(f"{len(solved)} solutions for {len(builder.parts.seconds)} parts, {kinds} feedback types")
    assert len(builder.parts.seconds) > 1
    assert len(solved) == kinds  # one each, in whichever part asks first


def test_what_validation_kept_is_known_also_when_loaded(data, tmp_path):
    suite = make_suite(data, ["dnn"])
    encoded = load_data(tmp_path, suite.datasets[0], suite.base().encoder)
    options = RunOptions(tmp_path, progress=False, accelerator="cpu")
    row = RowSpec(name="dnn")

    def kept(rate: float) -> str | None:
        parts = FittedParts(tmp_path, encoded, options)
        builder = RowBuilder(parts, suite.whole_recipe())
        still = row.model_copy(update={"set": {"training": {"lr": rate}}})
        builder.fit(still, builder.config(still, {}, {}), seed=0)
        assert parts.kept.get("mmr") is None
        return parts.kept.get("dnn")

    # A rate that changes nothing gains nothing; a wild one loses.
    assert kept(10.0) == "start"
    assert kept(10.0) == "start"  # loaded
    record = next(p for p in tmp_path.rglob("done.json") if '"kept": "start"' in p.read_text())
    record.write_text(record.read_text().replace('"kept": "start"', '"kept": "trained"'))
    assert kept(10.0) == "trained"


def test_seconds_of_a_pretrained_encoder_count_once_and_whoever_trained_it(
    data, tmp_path, monkeypatch
):
    suite = make_suite(data, ["prm"])
    encoded = load_data(tmp_path, suite.datasets[0], suite.base().encoder)
    options = RunOptions(tmp_path, progress=False, accelerator="cpu")
    row = RowSpec(name="prm", set={"pretrain": 2})
    pretrain = Job.pretrain

    def slow(job: Job) -> object:
        time.sleep(2)
        return pretrain(job)

    monkeypatch.setattr(Job, "pretrain", slow)

    def seconds() -> dict[str, float]:
        parts = FittedParts(tmp_path, encoded, options)
        builder = RowBuilder(parts, suite.whole_recipe())
        builder.fit(row, builder.config(row, {}, {}), seed=0)
        return {name.partition(".")[0]: each for name, each in parts.seconds.items()}

    trained = seconds()
    assert trained.keys() == {"encoder", "prm"}
    assert trained["encoder"] > 2 > trained["prm"]
    assert seconds() == trained  # loaded
