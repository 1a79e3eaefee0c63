"""The audit finds planted leaks and says so."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from goalrank.errors import ConfigError
from goalrank.evaluation import (
    absent_baselines,
    audit,
    audit_baselines,
    evaluate,
    linear_baseline,
)
from goalrank.rankers import Constant, RandomOrder, Scorer
from goalrank.testing import spec_of
from tests.helpers import make_columns, planted_choices

EXPECTED = {
    "retriever order", "retriever order (reversed)", "popularity", "popularity (reversed)",
    "smoothed feedback rate", "smoothed feedback rate (reversed)", "last-item transitions",
    "input order", "input order (reversed)", "random", "constant",
    "feature:a", "feature:a (reversed)", "feature:b", "feature:b (reversed)",
}  # fmt: skip


class Oracle(Scorer):
    def scores(self, batch):
        return batch.relevance


def leaky(requests: int = 300):
    """Positives got low retriever scores, as when answers are added to retrieved candidates."""
    columns = make_columns(requests, 10, protocol="injected", users=60)
    score = columns.candidate_score.copy()
    at = np.repeat(columns.candidate_start[:-1], np.diff(columns.shown_start)) + columns.shown
    score[at] -= 3.0
    return replace(columns, candidate_score=score)


def test_all_baselines_are_there():
    columns = make_columns()
    baselines = audit_baselines(columns, ["a", "b"])
    assert set(baselines) == EXPECTED
    assert absent_baselines(columns) == []
    assert all(not list(baseline.parameters()) for baseline in baselines.values())


def test_absent_baselines_are_named():
    columns = make_columns()
    columns = replace(columns, candidate_score=columns.candidate_score * 0, target=-1)
    baselines = audit_baselines(columns, ["a", "b"])
    assert not any("retriever" in name or "rate" in name for name in baselines)
    assert len(absent_baselines(columns)) == 2
    with pytest.raises(ConfigError, match="feature_names"):
        audit_baselines(columns, ["a"])


def test_a_leak_is_called_one():
    columns = leaky()
    baselines = evaluate(audit_baselines(columns, ["a", "b"]), columns, slots=3, bootstrap=200)
    trained = evaluate({"prm": RandomOrder(7)}, columns, slots=3, bootstrap=200)
    found = audit(trained, baselines, "ndcg")
    assert found.baseline == "retriever order (reversed)"
    assert not found.holds
    assert "retriever order (reversed)) scores" in found.verdict[0]
    assert "above the best trained ranker (prm" in found.verdict[0]
    assert "does not measure ranking" in found.verdict[0]
    assert "minus the retriever's score" in found.verdict[1]


def test_the_linear_baseline_is_fitted_where_features_and_a_target_are() -> None:
    columns = make_columns(200, 6, shown=6)
    (name,) = linear_baseline(spec_of(columns), columns)
    assert name == "linear baseline"
    assert linear_baseline(spec_of(columns), replace(columns, target=-1)) == {}
    bare = make_columns(features=0)
    assert linear_baseline(replace(spec_of(bare), has_score=False), bare) == {}


def test_a_ranker_below_the_linear_baseline_is_told_what_to_do() -> None:
    columns = planted_choices([2.0, -1.0], 600)
    learned = linear_baseline(spec_of(columns), columns)
    assert "linear baseline" in learned
    baselines = evaluate({**learned, "random": RandomOrder()}, columns, slots=3, bootstrap=200)
    trained = evaluate({"prm": RandomOrder(7)}, columns, slots=3, bootstrap=200)
    found = audit(trained, baselines, "ndcg")
    assert found.baseline == "linear baseline"
    assert "ranker.name=linear" in found.verdict[0]
    assert "does not measure" not in found.verdict[0]


def test_a_real_gain_is_granted():
    columns = make_columns(300, 10, users=60)
    baselines = evaluate(audit_baselines(columns, ["a", "b"]), columns, slots=3, bootstrap=200)
    trained = evaluate({"oracle": Oracle(), "bad": RandomOrder(3)}, columns, slots=3, bootstrap=200)
    found = audit(trained, baselines, "ndcg@3")
    assert found.holds
    assert found.trained == "oracle"
    assert "exceeds the best baseline" in found.verdict[0]
    assert found.difference is not None
    assert found.difference.low > 0
    assert len(found.verdict) == 1


def test_within_the_interval_is_said():
    columns = make_columns(60, 10)

    class Nearly(Scorer):
        """The best baseline, with one request put right."""

        def scores(self, batch):
            better = batch.relevance * (batch.index[:, None] == row)
            return baselines_by_name[best].scores(batch) + 100 * better

    baselines_by_name = audit_baselines(columns, ["a", "b"])
    baselines = evaluate(baselines_by_name, columns, slots=3, bootstrap=200)
    best = baselines.best("ndcg")
    row = int(baselines.rows[np.argmin(baselines.values[best]["ndcg@3"])])
    trained = evaluate({"nearly": Nearly()}, columns, slots=3, bootstrap=200)
    found = audit(trained, baselines)
    assert not found.holds
    assert "(nearly, ndcg@3" in found.verdict[0]
    assert f"({best}, " in found.verdict[0]
    assert "are not told apart" in found.verdict[0]
    assert "does not measure" not in found.verdict[0]
    assert found.difference is not None
    half = (found.difference.high - found.difference.low) / 2
    (needed,) = re.findall(r"about ([0-9,]+) scored requests", found.verdict[0])
    scored = int(np.isfinite(trained.values["nearly"]["ndcg@3"]).sum())
    exact = scored * (half / 0.005) ** 2
    assert exact <= int(needed.replace(",", "")) <= 1.1 * exact + 1
    assert f"and there are {scored}." in found.verdict[0]


def test_a_baseline_that_is_shown_to_be_as_good_is_level():
    columns = make_columns(60, 10)
    baselines = evaluate(audit_baselines(columns, ["a", "b"]), columns, slots=3, bootstrap=200)
    same = audit_baselines(columns, ["a", "b"])[baselines.best("ndcg")]
    trained = evaluate({"copy": same}, columns, slots=3, bootstrap=200)
    verdict = audit(trained, baselines).verdict[0]
    assert "level with the best trained ranker (copy" in verdict
    assert "does not measure ranking" in verdict


def test_the_best_of_many_trained_rankers_is_no_find():
    """Copies of chance: the best of twenty of them is above the baseline no more often than 5 %."""
    columns = make_columns(150, 10, users=40)
    baselines = evaluate({"random": RandomOrder(999)}, columns, slots=3, bootstrap=400)
    many = {f"r{i}": RandomOrder(i) for i in range(20)}
    trained = evaluate(many, columns, slots=3, bootstrap=400)
    best = trained.best("ndcg")
    alone = audit(evaluate({best: many[best]}, columns, slots=3, bootstrap=400), baselines)
    assert alone.holds  # by the same numbers, and nobody told that it was chosen
    found = audit(trained, baselines)
    assert not found.holds
    assert "corrected for the choice among 20 trained rankers" in found.verdict[0]


def test_the_best_of_many_baselines_is_doubted():
    columns = make_columns(150, 10, users=40)
    many = {f"baseline {i}": RandomOrder(i) for i in range(20)}
    trained = evaluate({"chance": RandomOrder(999)}, columns, slots=3, bootstrap=400)
    found = audit(trained, evaluate(many, columns, slots=3, bootstrap=400))
    assert found.comparison is not None
    assert found.comparison.outcome == "below"
    assert "best of 20 on these very requests" in found.verdict[1]


def test_a_metric_that_is_defined_nowhere_is_said_to_be():
    columns = make_columns(60, 4, users=40)
    baselines = evaluate({"constant": Constant()}, columns, slots=3, bootstrap=50)
    nowhere = {"auc": np.full(baselines.n, np.nan)}
    baselines = replace(baselines, values={"constant": nowhere})
    trained = replace(baselines, values={"prm": nowhere})
    found = audit(trained, baselines, "auc")
    assert not found.holds
    assert "auc is defined on none of these requests; remedy" in found.verdict[0]
    assert "nan" not in " ".join([*found.verdict, *found.comparison.lines.values()])  # type: ignore[union-attr]
    assert "defined on none" in audit(None, baselines, "auc").verdict[0]


def test_without_trained_rankers():
    columns = make_columns(60, 10)
    baselines = evaluate(audit_baselines(columns, ["a", "b"]), columns, slots=3, bootstrap=50)
    found = audit(None, baselines, notes=["A note."])
    assert found.trained is None
    assert found.verdict[0].startswith("The best baseline")
    assert found.verdict[-1] == "A note."
