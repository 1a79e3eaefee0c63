"""evaluate: rankers beside baselines, with the audit's verdict and the table's warning."""

from __future__ import annotations

import json

import pytest

from goalrank import evaluate
from goalrank.api import audit_table
from goalrank.cli.common import print_scorecard
from goalrank.errors import ConfigError
from goalrank.rankers import Scorer
from goalrank.requests import Requests
from tests.bundles.kit import make_bundle
from tests.tables import make_table


class Oracle(Scorer):
    """Knows the answers."""

    def scores(self, batch):
        return batch.relevance


def test_an_oracle_beats_every_baseline():
    bundle = make_bundle()
    card = evaluate(
        {"bundle": bundle, "oracle": Oracle()}, make_table(80, seed=1), 4, train=make_table(),
        bootstrap=200,
    )  # fmt: skip
    assert card.audit.holds
    assert card.audit.trained == "oracle"
    assert card.trained is not None
    assert card.trained.interval("oracle", "ndcg").mean == pytest.approx(1.0)
    assert {"popularity", "retriever order", "feature:p", "constant"} <= set(card.baselines.rankers)
    content = json.loads(json.dumps(card.to_dict()))
    assert content["audit"]["holds"] is True
    assert content["rankers"]["oracle"]["ndcg@4"]["mean"] == pytest.approx(1.0)


def test_baselines_that_count_need_the_past():
    card = evaluate(make_bundle(), make_table(80, seed=1), 4, bootstrap=50)
    assert "popularity" not in card.baselines.rankers
    assert "retriever order" in card.baselines.rankers
    assert any("no training table" in sentence for sentence in card.verdict)


def test_bundles_of_different_encoders_are_compared_on_the_same_requests():
    a, b = make_bundle("dnn"), make_bundle("prm", train=make_table(40, seed=5))
    card = evaluate({"a": a, "b": b}, make_table(80, seed=1), 4, bootstrap=50)
    assert card.trained is not None
    assert card.trained.rankers == ["a", "b"]
    alone = evaluate({"b": b}, make_table(80, seed=1), 4, bootstrap=50)
    assert alone.trained is not None
    assert alone.trained.values["b"]["ndcg@4"] == pytest.approx(card.trained.values["b"]["ndcg@4"])


def test_an_audit_without_features_says_that_it_has_no_linear_baseline():
    table = make_table(100)
    info = table.info.model_copy(update={"candidate_features": ()})
    bare = Requests(table.frame.drop("candidate_score", "candidate_features"), info=info)
    card = audit_table(bare.head(60), bare, 4, bootstrap=20)
    assert "linear baseline" not in card.baselines.rankers
    assert "Candidates have no features, so there is no linear baseline." in card.verdict


def test_an_interval_that_there_is_not_is_not_printed(capsys):
    one = make_table(40, users=1)
    print_scorecard(audit_table(one, one, 4, bootstrap=20))
    assert "inf" not in capsys.readouterr().out


def test_the_warning_is_printed():
    card = evaluate(make_bundle(), make_table(40, seed=1, warning="mind the gap"), 4, bootstrap=50)
    assert "mind the gap" in str(card)
    assert card.to_dict()["warning"] == "mind the gap"


def test_a_printed_card_is_of_one_screen_and_its_table_is_whole():
    card = evaluate(make_bundle(), make_table(40, seed=1), 4, bootstrap=20)
    best = card.baselines.best_first("ndcg")
    assert len(best) > 6
    text, whole = str(card), card.table()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert card.trained is not None
    assert set(rows[1:]) == {*card.trained.rankers, *best[:5]}
    assert f"{len(best) - 5} weaker baselines not shown; table() has all of them." in text
    assert all(f"| {name} |" in whole for name in best)
    assert "not shown" not in whole


def test_somebody_must_know_how_to_encode():
    with pytest.raises(ConfigError, match="bundle"):
        evaluate({"oracle": Oracle()}, make_table(10))


def test_audit_of_data_alone():
    train, test = make_table(), make_table(80, seed=1)
    leaking = [
        [float(p in good) for p in range(n)]
        for n, good in (
            (
                len(row["candidates"]),
                {s for s, c in zip(row["shown"], row["feedback"]["click"]) if c},
            )
            for row in test.frame.iter_rows(named=True)
        )
    ]
    frame = test.frame.with_columns(candidate_score=_series(leaking))
    card = audit_table(train, Requests(frame, info=test.info), 4, bootstrap=50)
    assert card.trained is None
    assert card.audit.baseline == "retriever order"
    assert card.baselines.interval("retriever order", "ndcg").mean == pytest.approx(1.0)


def _series(values):
    import polars as pl

    return pl.Series(values, dtype=pl.List(pl.Float32))
