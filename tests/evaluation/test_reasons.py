"""Reasons of places: planted weights are found, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from goalrank.evaluation import find_reasons
from goalrank.rankers import FeatureOrder, RetrieverOrder, Scorer
from goalrank.requests import Encoder
from tests.tables import make_table


class Weighted(Scorer):
    """Scores by two features: 3 × the first + the second."""

    def scores(self, batch):
        return 3 * batch.candidate_features[..., 0] + batch.candidate_features[..., 1]


@pytest.fixture(scope="module")
def table():
    return make_table(40, most=9)


@pytest.fixture(scope="module")
def encoder(table) -> Encoder:
    return Encoder.fit(table)


def tops(ranker, columns, rows, slots):
    lists = ranker.rank(columns.batch(rows), slots)
    return [(row, int(at)) for row, at in zip(rows, lists[:, 0])]


def test_the_only_input_of_a_ranker_is_the_only_reason(table, encoder):
    columns = encoder.encode(table)
    name = encoder.info.candidate_features[1]
    rows = [r for r in range(len(columns)) if columns.batch([r]).candidate_mask.sum() > 4][:6]
    chosen = tops(FeatureOrder(1), columns, rows, 4)
    for (row, at), found in zip(chosen, find_reasons(FeatureOrder(1), encoder, columns, chosen, 4)):
        assert [reason.feature for reason in found] == [name]
        given = np.array(table.frame["candidate_features"][row].to_list())
        assert found[0].value == pytest.approx(given[at, 1], abs=1e-4)
        assert found[0].typical == pytest.approx(given[:, 1].mean(), abs=1e-4)
        assert found[0].value > found[0].typical
        assert found[0].place is None or found[0].place > 0


def test_the_place_without_a_feature_is_that_of_a_new_ranking(table, encoder):
    columns = encoder.encode(table)
    ranker = Weighted()
    chosen = tops(ranker, columns, list(range(20)), 3)
    for (row, at), found in zip(chosen, find_reasons(ranker, encoder, columns, chosen, 3)):
        batch = columns.batch([row])
        for reason in found:
            j = encoder.info.candidate_features.index(reason.feature)
            features = batch.candidate_features.clone()
            real = batch.candidate_mask[0]
            features[0, at, j] = features[0, real, j].mean()
            scores = 3 * features[0, real, 0] + features[0, real, 1]
            place = int((scores > scores[at]).sum())
            assert place > 0
            assert reason.place == (place if place < 3 else None)
            assert j < 2


def test_the_retrievers_score_is_an_input(table, encoder):
    columns = encoder.encode(table)
    chosen = tops(RetrieverOrder(), columns, list(range(5)), 2)
    for found in find_reasons(RetrieverOrder(), encoder, columns, chosen, 2):
        assert {reason.feature for reason in found} <= {"candidate_score"}
    assert any(find_reasons(RetrieverOrder(), encoder, columns, chosen, 2))


def test_scores_of_models_follow_the_features(table, encoder):
    """A ranker that reads nothing but a model's score still has the model's inputs as reasons."""

    class Twice:
        names = ("twice",)

        def of(self, columns):
            return 2 * columns.own_features[:, :1]

        def write(self, folder):
            return []

    with_model = replace(encoder, model_scores=Twice())
    columns = with_model.encode(table)
    ranker = FeatureOrder(columns.candidate_features.shape[1] - 1)
    chosen = tops(ranker, columns, list(range(8)), 3)
    found = find_reasons(ranker, with_model, columns, chosen, 3)
    assert {r.feature for each in found for r in each} == {encoder.info.candidate_features[0]}


def test_nothing_to_explain_gives_nothing(table, encoder):
    columns = encoder.encode(table)
    assert find_reasons(Weighted(), encoder, columns, [], 3) == []
    torch.manual_seed(0)
    ranker = Weighted().train()
    find_reasons(ranker, encoder, columns, tops(ranker, columns, [0], 3), 3)
    assert ranker.training
