"""Settings that follow from the training requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.recipes import default_recipe
from goalrank.requests import EncodedRequests
from goalrank.testing import make_requests, spec_of
from goalrank.training import (
    DataFacts,
    Job,
    LoopConfig,
    RunOptions,
    build_config,
    resolved,
    rules_applied,
)

DEFAULT = build_config(default_recipe())


def facts_of(columns: EncodedRequests) -> DataFacts:
    return DataFacts.of(spec_of(columns), columns)


def test_counted_in_the_training_requests() -> None:
    columns = make_requests(100, 8, items=20, seed=1)
    positives = int((columns.feedback[:, 0] > 0).sum())
    known_items = spec_of(columns).item_ids - spec_of(columns).item_buckets - 1
    assert facts_of(columns) == DataFacts(100, positives / known_items, 1.0)
    exposed = replace(columns, protocol="exposed")
    assert facts_of(exposed).known == len(columns.shown) / len(columns.candidates)


@pytest.mark.parametrize(
    ("facts", "id_dropout", "known"),
    [
        (DataFacts(1000, 2.0, 1.0), 0.95, 1.0),
        (DataFacts(1000, 9.9, 0.95), 0.95, 1.0),
        (DataFacts(1000, 10.0, 0.94), 0.05, 0.0),
    ],
)
def test_few_positives_leave_items_to_features_and_unknown_relevance_teaches_nothing(
    facts: DataFacts, id_dropout: float, known: float
) -> None:
    found = resolved(DEFAULT, facts)
    assert found.ranker.id_dropout == found.reward.id_dropout == id_dropout
    assert found.objective.supervised == found.reward.observed == known
    assert found.reward.slot_weights == ("dcg" if known else "ones")
    assert found.objective.warm_start is True


@given(st.integers(1, 10**7), st.sampled_from([16, 64, 256]))
def test_steps_are_four_passes_over_few_requests_and_two_over_many(requests: int, batch: int):
    loop = LoopConfig(steps=0, validate_every=0, batch_size=batch).over(requests)
    assert 200 <= loop.steps <= 3000
    if loop.steps not in (200, 600, 3000):
        passes = 4 if loop.steps < 600 else 2
        assert loop.steps * batch >= passes * requests > (loop.steps - 1) * batch
    if loop.steps == 600:
        assert 4 * requests > 599 * batch
        assert 2 * requests <= 600 * batch
    assert 1 <= loop.validate_every <= 200


def test_what_is_set_stays_and_applying_twice_changes_nothing() -> None:
    recipe = default_recipe()
    recipe["ranker"] |= {"id_dropout": 0.3, "width": 32}
    recipe["training"]["steps"] = 7
    recipe["objective"]["supervised"] = 0.25
    facts = DataFacts(5000, 1.0, 1.0)
    found = resolved(build_config(recipe), facts)
    assert (found.ranker.id_dropout, found.training.steps) == (0.3, 7)
    assert found.objective.supervised == 0.25
    assert found.objective.warm_start is False  # 32 numbers beside the reward model's 64
    assert resolved(found, facts) == found
    del recipe["ranker"]["width"]
    assert resolved(build_config(recipe), facts).objective.warm_start is True
    recipe["reward"] = {"name": "observed_gain"}  # has no encoder to begin with
    assert resolved(build_config(recipe), facts).objective.warm_start is False
    assert rules_applied(found, facts) == []


@pytest.mark.parametrize(
    ("requests", "generator", "others"),
    [
        (1000, 200, 200),
        (8000, 500, 500),
        (12_000, 600, 600),
        (35_400, 600, 1107),
        (10**6, 3000, 3000),
    ],
)
def test_steps_of_logs_of_all_sizes(requests: int, generator: int, others: int) -> None:
    found = resolved(DEFAULT, replace(facts_of(make_requests(20)), requests=requests))
    assert (found.training.steps, found.reward.loop.steps) == (generator, others)


def test_a_generator_with_a_warm_start_needs_one_pass_over_many_requests() -> None:
    recipe = default_recipe()
    for section in (recipe["training"], recipe["light_loop"], recipe["reward"]["loop"]):
        section |= {"steps": 0}
    facts = replace(facts_of(make_requests(20)), requests=64_000)
    found = resolved(build_config(recipe), facts)
    assert (found.training.steps, found.light_loop.steps, found.reward.loop.steps) == (
        1000, 2000, 2000,
    )  # fmt: skip
    recipe["objective"]["warm_start"] = False
    assert resolved(build_config(recipe), facts).training.steps == 2000
    recipe["objective"] |= {"warm_start": "auto", "name": "supervised"}
    assert resolved(build_config(recipe), facts).training.steps == 2000


def test_a_job_says_what_followed_from_the_data(tmp_path: Path) -> None:
    train = make_requests(30)
    options = RunOptions(tmp_path, progress=False, accelerator="cpu", devices=1)
    recipe = default_recipe()
    for section in (recipe["training"], recipe["reward"]["loop"]):
        section |= {"steps": 0, "patience": 1}
    job = Job(spec_of(train), train, None, build_config(recipe), options)
    assert job.config.training.steps == 200
    said = " ".join(job.rules)
    assert "training.steps = 200: 200 passes over 30 requests, within 200 and 3,000 steps" in said
    assert "reward.loop.steps = 200: 200 passes" in said
    labels = build_config({**recipe, "objective": {"name": "supervised"}})
    assert not any(
        "reward" in line.partition("=")[0] for line in rules_applied(labels, facts_of(train))
    )
    assert "positives per item" in said
    assert "100% of the candidates" in said


def test_no_target_has_no_positives() -> None:
    columns = replace(make_requests(20), target=-1)
    assert facts_of(columns).positives_per_item == 0
    assert np.isfinite(facts_of(columns).known)
