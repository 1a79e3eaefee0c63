"""Rows made of one trained scorer: ensembles, and MMR and DPP on learned scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from goalrank.errors import ConfigError
from goalrank.rankers import DPP, MMR, PRM, Ranker, ScoreMean, TreesOverScores, user_folds
from goalrank.studies.common import FittedParts, RowBuilder, RowSpec, load_data, standard_rows
from goalrank.training import RunOptions
from tests.studies.arena.kit import make_suite


@pytest.fixture(scope="module")
def builder(data, tmp_path_factory) -> RowBuilder:
    suite = make_suite(data, ["dnn"])
    folder = tmp_path_factory.mktemp("rows")
    encoded = load_data(folder, suite.datasets[0], suite.base().encoder)
    options = RunOptions(folder, progress=False, accelerator="cpu")
    return RowBuilder(FittedParts(folder, encoded, options), suite.whole_recipe())


def made(builder: RowBuilder, row: RowSpec) -> Ranker:
    [ranker] = builder.fit(row, builder.config(row, {}, {}), seed=0).values()
    return ranker


def standard(label: str, **options: Any) -> RowSpec:
    row = RowSpec.model_validate(standard_rows()[label])
    return row.model_copy(update={"options": {**row.options, **options}})


def test_an_ensemble_is_the_mean_of_different_trainings(builder):
    ranker = made(builder, standard("prm_ensemble_3"))
    assert isinstance(ranker, ScoreMean)
    assert [type(member) for member in ranker.members] == [PRM] * 3
    weights = [next(m.encoder.items.parameters()) for m in ranker.members]  # type: ignore[union-attr]
    assert not torch.equal(weights[0], weights[1])
    batch = builder.parts.data.test.batch(slice(0, 5))
    each = torch.stack([member.scores(batch) for member in ranker.members])  # type: ignore[operator]
    torch.testing.assert_close(ranker.scores(batch), each.mean(0))


@pytest.mark.parametrize(("label", "kind"), [("mmr_prm", MMR), ("dpp_prm", DPP)])
def test_diversity_on_learned_scores_has_a_trained_base(builder, label, kind):
    ranker = made(builder, standard(label))
    assert type(ranker) is kind
    assert isinstance(ranker.base, PRM)
    assert not standard(label).rewarded


def test_relevance_alone_is_the_order_of_the_learned_scores(builder):
    """λ = 1 leaves diversity out."""
    ranker = made(builder, standard("mmr_prm", trade=1.0))
    assert isinstance(ranker, MMR)
    batch = builder.parts.data.test.batch(slice(None))
    assert torch.equal(ranker.rank(batch, 3), ranker.base.rank(batch, 3))


def test_an_ensemble_of_what_does_not_score_is_refused(builder):
    with pytest.raises(ConfigError, match=r"do not score candidates.*remedy"):
        made(builder, standard("prm_ensemble_3", base="seq2slate"))


def test_trees_over_scores_have_a_member_per_fold_trained_without_it(builder, monkeypatch):
    pytest.importorskip("lightgbm")
    seen: list[set[int]] = []
    job = FittedParts.job

    def watched(parts, config, place):
        seen.append(set(parts.data.train.key.tolist()))
        return job(parts, config, place)

    monkeypatch.setattr(FittedParts, "job", watched)
    ranker = made(builder, standard("trees_over_prm", folds=2))
    assert isinstance(ranker, TreesOverScores)
    assert not standard("trees_over_prm").rewarded
    train = builder.parts.data.train
    fold = user_folds(train, 2)
    assert seen == [set(train.key[fold != k].tolist()) for k in range(2)]
    batch = builder.parts.data.test.batch(slice(0, 5))
    assert ranker.rank(batch, 3).shape == (5, 3)
    assert len(ranker.trees.text) > 0
    assert builder.parts.seconds["trees"] > 0


def test_trees_over_what_does_not_score_are_refused(builder):
    with pytest.raises(ConfigError, match=r"do not score candidates.*remedy"):
        made(builder, standard("trees_over_prm", base="seq2slate", folds=2))


def test_a_pretrained_prm_begins_with_what_histories_taught(builder):
    row = standard("prm_pretrained")
    assert row.set["pretrain"] == 500
    still = row.model_copy(update={"set": {"pretrain": 5, "training": {"lr": 1e-12}}})
    config = builder.config(still, {}, {})
    taught = builder.parts.pretrained(builder.resolved(config))
    [ranker] = builder.fit(still, config, seed=0).values()
    plain = made(builder, RowSpec(name="prm", set={"training": {"lr": 1e-12}}))
    assert isinstance(ranker, PRM)
    assert isinstance(plain, PRM)
    mine, its = ranker.encoder.state_dict(), plain.encoder.state_dict()
    shared = [name for name in taught if mine[name].shape == taught[name].shape]
    torch.testing.assert_close({k: mine[k] for k in shared}, {k: taught[k] for k in shared})
    assert any(not torch.equal(its[name], taught[name]) for name in shared)
