"""The linear start as a candidate of model selection."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goalrank.encoders import wide_parameters
from goalrank.rankers import Ranker, RankerConfig, build_ranker
from goalrank.requests import EncodedRequests
from goalrank.testing import make_requests, spec_of
from goalrank.training import FitConfig, Job, LoopConfig, RunOptions, SupervisedTask, run_stage
from goalrank.training.linear_start import LinearStart
from goalrank.training.loop.start_candidate import compare, read_comparison
from goalrank.training.modules.supervised import list_ndcg
from tests.helpers import planted_choices


def stage(folder: Path) -> RunOptions:
    return RunOptions(folder=folder, accelerator="cpu", devices=1, progress=False)


def started(name: str, train: EncodedRequests, **sizes: float) -> Ranker:
    spec = spec_of(train)
    ranker = build_ranker(
        spec, RankerConfig.model_validate({"name": name, "width": 16, "heads": 2, **sizes})
    )
    LinearStart(spec, train, None, 4, 0).give(ranker.wide_path, [0])
    return ranker


def quality(ranker: Ranker, columns: EncodedRequests) -> torch.Tensor:
    batch = columns.batch(slice(None))
    with torch.no_grad():
        return list_ndcg(batch, ranker.eval().rank(batch, 4))


@pytest.mark.parametrize("name", ["prm", "dnn", "goalrank"])
def test_few_requests_and_useless_ids_leave_a_network_at_the_linear_solution(
    name: str, tmp_path: Path
) -> None:
    """Choices depend on the features alone; a high rate learns the ids by heart."""
    train = planted_choices([1.2, -0.8], 60, seed=1)
    validation, test = (
        planted_choices([1.2, -0.8], 30, seed=20),
        planted_choices([1.2, -0.8], 1500, seed=40),
    )
    ranker = started(name, train, layers=1, id_dropout=0.0, dropout=0.0)
    linear = quality(ranker, test)
    loop = LoopConfig(steps=60, batch_size=32, lr=1e-2, warmup=5, validate_every=20, patience=3)
    run_stage(SupervisedTask(ranker, loop, 0, 4), train, validation, stage(tmp_path))
    gain = quality(ranker, test) - linear
    assert float(gain.mean()) > -2 * float(gain.std()) / np.sqrt(len(gain)) - 1e-9
    assert read_comparison(tmp_path) is not None


def test_training_that_helps_is_kept(tmp_path: Path) -> None:
    """What counts here is a product of two features, which no linear model has."""

    def crossed(seed: int) -> EncodedRequests:
        columns = planted_choices([0.0, 0.0], 600, seed=seed)
        x = columns.candidate_features
        rng = np.random.default_rng(seed)
        score = 4 * np.sign(x[:, 0] * x[:, 1]) + rng.gumbel(size=len(x))
        start = columns.candidate_start
        columns.shown[:] = [score[a:b].argmax() for a, b in pairwise(start)]
        return columns

    train, validation = crossed(1), crossed(2)
    ranker = started("dnn", train, layers=2, dropout=0.0)
    loop = LoopConfig(steps=300, batch_size=64, lr=3e-3, validate_every=50, patience=5)
    run_stage(SupervisedTask(ranker, loop, 0, 4), train, validation, stage(tmp_path))
    found = read_comparison(tmp_path)
    assert found is not None
    assert found.kept == "trained"
    assert found.gain > 5 * found.error
    assert float(quality(ranker, validation).mean()) == pytest.approx(found.trained, abs=1e-5)


def test_the_kept_weights_are_those_on_disk(tmp_path: Path) -> None:
    """A finished stage that is resumed gives the same model."""
    train, validation = (
        planted_choices([1.0, 0.5], 40, seed=3),
        planted_choices([1.0, 0.5], 20, seed=4),
    )
    loop = LoopConfig(steps=20, batch_size=16, lr=3e-2, warmup=0, validate_every=10, patience=2)
    ranker = started("prm", train, layers=1)
    run_stage(SupervisedTask(ranker, loop, 0, 4), train, validation, stage(tmp_path))
    again = started("prm", train, layers=1)
    options = RunOptions(folder=tmp_path, accelerator="cpu", devices=1, progress=False, resume=True)
    run_stage(SupervisedTask(again, loop, 0, 4), train, validation, options)
    for name, value in ranker.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_model_without_features_has_no_start_to_keep(tmp_path: Path) -> None:
    columns = make_requests(features=0)
    spec = spec_of(columns)
    ranker = build_ranker(
        replace(spec, has_score=False), RankerConfig(name="dnn", width=16, heads=2)
    )
    loop = LoopConfig(steps=4, batch_size=16, validate_every=2)
    run_stage(SupervisedTask(ranker, loop, 0, 4), columns, columns, stage(tmp_path))
    assert read_comparison(tmp_path) is None


def test_a_linear_solution_without_weights_is_no_start_to_keep(tmp_path: Path) -> None:
    """The order of the candidates would pass for a linear model, and a small gain for too small."""
    columns = planted_choices([0.0], 60, seed=1)
    columns = replace(columns, candidate_features=np.ones_like(columns.candidate_features))
    ranker = started("prm", columns, layers=1)
    assert not any(p.any() for p in wide_parameters(ranker))
    loop = LoopConfig(steps=4, batch_size=16, validate_every=2)
    run_stage(SupervisedTask(ranker, loop, 0, 4), columns, columns, stage(tmp_path))
    assert read_comparison(tmp_path) is None


@given(st.integers(0, 1000), st.integers(1, 40))
def test_the_error_counts_users_and_not_requests(seed: int, copies: int) -> None:
    """Copies of a user's requests make nobody surer."""
    rng = np.random.default_rng(seed)
    before, after, user = rng.normal(size=20), rng.normal(size=20), np.arange(20)
    once = compare(before, after, user, 1.0, split=False)
    again = [np.repeat(values, copies) for values in (before, after)]
    many = compare(again[0], again[1], np.repeat(user, copies), 1.0, split=False)
    assert many.error == pytest.approx(once.error)
    assert many.kept == once.kept


@pytest.mark.parametrize(("requests", "users", "kept"), [
    (300, 30, "trained"), (5000, 300, "trained"),
    (299, 299, "start"), (5000, 29, "start"),
])  # fmt: skip
def test_a_small_part_asks_for_more_than_luck(requests: int, users: int, kept: str) -> None:
    """Half an error is enough, but not where validation is small."""
    rng = np.random.default_rng(0)
    user = np.arange(requests) % users
    before, own = rng.normal(size=requests), rng.normal(size=requests)
    own -= own.mean()
    error = compare(before, before + own, user, 0.0).error
    found = compare(before, before + own + error / 2, user, 1.0)
    assert found.gain == pytest.approx(found.error / 2, rel=0.05)
    assert found.kept == kept
    assert found.asked == (kept == "start")
    assert ("a small part" in str(found)) == (kept == "start")
    assert compare(before, before + own + error / 2, user, 0.0).kept == "trained"
    assert compare(before, before + own - error / 2, user, 0.0).kept == "start"


@pytest.mark.parametrize(("requests", "kept"), [(1, "start"), (20, "start"), (5000, "trained")])
def test_one_users_requests_are_draws_themselves(requests: int, kept: str) -> None:
    """A sum over all requests of one user has no spread, which is no certainty."""
    rng = np.random.default_rng(1)
    before = rng.normal(size=requests)
    gain = rng.normal(size=requests)
    gain += 0.1 - gain.mean()
    found = compare(before, before + gain, np.zeros(requests, np.int32), 1.0)
    assert found.kept == kept
    error = gain.std(ddof=1) / np.sqrt(requests) if requests > 1 else np.inf
    assert found.error == pytest.approx(error)
    assert compare(before, before + gain, np.zeros(requests, np.int32), 0.0).kept == "trained"
    assert "inf" not in str(found)


def test_requests_without_a_score_make_no_part_larger() -> None:
    before = np.where(np.arange(1000) < 250, 0.5, np.nan)
    after = before + np.where(np.arange(1000) % 2, 0.2, -0.19)
    assert compare(before, after, np.arange(1000), 1.0).kept == "start"


def test_a_job_says_what_training_gained(tmp_path: Path) -> None:
    """Each stage that begins as a linear model leaves its comparison, and says it in words."""
    train, validation = planted_choices([1.0], 40, seed=5), planted_choices([1.0], 20, seed=6)
    small = {"width": 8, "heads": 2, "layers": 1}
    loop = {"steps": 4, "validate_every": 2}
    config = FitConfig.model_validate(
        {
            "light": ["prm"],
            "ranker": small,
            "reward": {**small, "loop": loop},
            "light_loop": loop,
            "training": loop,
        }
    )
    fitted = Job(spec_of(train), train, validation, config, stage(tmp_path)).run()
    assert set(fitted.starts) == {"prm", "reward-0", "goalrank"}
    for start in fitted.starts.values():
        kept = "linear start" if start.kept == "start" else "trained model"
        assert str(start).endswith(f"the {kept} is kept")
