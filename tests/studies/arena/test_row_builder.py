"""Settings of rows: every row gets the training that its own way of learning asks for."""

from __future__ import annotations

import pytest

from goalrank.recipes import default_recipe
from goalrank.studies.common import FittedParts, RowBuilder, RowSpec, load_data, standard_rows
from goalrank.training import DataFacts, RunOptions
from tests.studies.arena.kit import make_suite

REQUESTS, PASS = 64_000, 1_000


@pytest.fixture
def builder(data, tmp_path, monkeypatch) -> RowBuilder:
    suite = make_suite(data, ["dnn"])
    encoded = load_data(tmp_path, suite.datasets[0], suite.base().encoder)
    facts = DataFacts(REQUESTS, positives_per_item=20.0, known=1.0)
    monkeypatch.setattr(DataFacts, "of", lambda *_, **__: facts)
    return RowBuilder(FittedParts(tmp_path, encoded, RunOptions(tmp_path)), default_recipe())


LABELS = (
    "dnn",
    "prm",
    "setrank",
    "generator",
    "mg_e_3",
    "best_of_100",
    "prm_ensemble_3",
    "prm_pretrained",
    "mmr_prm",
)


@pytest.mark.parametrize("label", LABELS)
def test_what_learns_from_labels_has_two_passes(builder, label):
    """As in `goalrank train` with a supervised objective; one pass is for a warm generator."""
    row = RowSpec.model_validate(standard_rows()[label])
    assert builder.resolved(builder.config(row, {}, {})).training.steps == 2 * PASS


def test_a_generator_that_begins_as_its_reward_model_has_one(builder):
    row = RowSpec(name="goalrank", label="goalrank")
    assert builder.resolved(builder.config(row, {}, {})).training.steps == PASS
    row = RowSpec(name="goalrank", label="labels", objective="supervised")
    assert builder.resolved(builder.config(row, {}, {})).training.steps == 2 * PASS


def test_rows_that_a_reward_teaches_after_labels_have_one_pass_beside_two_on_labels(builder):
    for name in ("nlgr", "egrank"):
        config = builder.resolved(builder.config(RowSpec(name=name, label=name), {}, {}))
        assert (config.light_loop.steps, config.training.steps) == (2 * PASS, PASS)
