"""Scores of cross-fitted trees."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from goalrank.bundles import Bundle
from goalrank.encoders import PlainFeatures, TreeScores, add_tree_scores
from goalrank.encoders.tree_scores import (
    CrossFitted,
    _candidate_folds,
    _features,
    _in_history,
)
from goalrank.errors import BundleError, ConfigError, MissingExtraError
from goalrank.evaluation import linear_baseline
from goalrank.rankers import LinearScores, RankerConfig, build_ranker
from goalrank.requests import EncodedRequests, Encoder, EncoderConfig, Requests, history_ages
from goalrank.testing import make_requests, make_table, spec_of
from goalrank.training.linear_start import LinearStart
from goalrank.training.modules.supervised import list_ndcg

pytest.importorskip("lightgbm", reason="extra trees: lightgbm")

TABLE = make_table(40, seed=0)
PLAIN = Encoder.fit(Requests(TABLE.frame, info=TABLE.info))  # no item numbers, as `make_requests`


def choices(
    score: NDArray[np.float64], columns: EncodedRequests, noise: float = 0.3
) -> EncodedRequests:
    """The same requests, of which the candidate with the highest noisy score was chosen."""
    noisy = score + noise * np.random.default_rng(9).gumbel(size=len(score))
    best = [noisy[a:b].argmax() for a, b in pairwise(columns.candidate_start)]
    count = len(columns)
    return replace(
        columns,
        shown_start=np.arange(count + 1),
        shown=np.array(best, np.int32),
        feedback=np.ones((count, 1), np.float32),
    )


def world(kind: str, requests: int = 2400, seed: int = 0) -> EncodedRequests:
    """Choices by a feature ("linear"), or by the product of two ("product")."""
    columns = make_requests(requests, 8, users=60, history=4, seed=seed)
    x, y = columns.candidate_features.T.astype(np.float64)
    return choices({"linear": 2 * x, "product": 2 * x * y}[kind], columns)


def scored(columns: EncodedRequests) -> tuple[TreeScores, EncodedRequests]:
    encoder, columns, said = add_tree_scores(PLAIN, columns, folds=3, seed=0)
    assert "3 × " in said
    assert isinstance(encoder.model_scores, TreeScores)
    return encoder.model_scores, columns


PRODUCT, PRODUCT_SCORED = scored(world("product"))
SPEC = spec_of(PRODUCT_SCORED)
COUNTING = PRODUCT.counted.texts[0] if PRODUCT.counted else ""


def beginning(kind: str, validated: bool = True) -> tuple[str, float]:
    """What networks begin as, and how much better than the plain features it ranks new requests."""
    scores, train = scored(world(kind))
    held, test = (world(kind, count, seed=seed) for count, seed in ((800, 5), (3000, 6)))
    held, test = (each.with_model_scores(scores.of(each)) for each in (held, test))
    spec = spec_of(train)
    linear, begun = LinearScores(spec), LinearScores(spec)
    linear.fit_closed_form(train, None, 4, 0)
    start = LinearStart(spec, train, held if validated else None, 4, 0)
    start.give(begun.wide, [0])
    return start.chosen, quality(begun, test) - quality(linear, test)


def quality(ranker: LinearScores, columns: EncodedRequests) -> float:
    with torch.no_grad():
        batches = columns.batches(500)
        each = [list_ndcg(batch, ranker.eval().rank(batch, 4)) for batch in batches]
    return float(torch.cat(each).nanmean())


def test_networks_begin_as_trees_where_validation_says_so() -> None:
    chosen, gain = beginning("product")
    assert "trees" in chosen
    assert gain > 0.1
    assert beginning("product", validated=False) == ("linear", 0.0)
    assert beginning("linear")[1] > -0.005


def test_the_linear_ranker_reads_no_scores_of_models() -> None:
    spec = spec_of(PRODUCT_SCORED)
    made = PlainFeatures(spec).is_model_score
    assert int(made.sum()) == 6
    linear = LinearScores(spec)
    linear.fit_closed_form(PRODUCT_SCORED, None, 4, 0)
    weight = linear.wide.state_dict()["linear.weight"][0]
    assert (weight[made] == 0).all()
    assert (weight[~made] != 0).any()


def test_scores_of_models_alone_are_nothing_to_be_linear_in() -> None:
    """All weights would be zero, and the order of the candidates would pass for a linear model's."""
    bare = replace(PRODUCT_SCORED, candidate_features=PRODUCT_SCORED.candidate_features[:, -2:])
    spec = replace(spec_of(bare), has_score=False)
    assert spec.candidate_features == spec.model_scores == 2
    with pytest.raises(ConfigError, match="nothing to be linear in"):
        LinearScores(spec).fit_closed_form(bare, None, 4, 0)
    assert linear_baseline(spec, bare) == {}
    assert linear_baseline(replace(spec, has_score=True), bare)


@pytest.mark.parametrize("validated", [False, True])
def test_networks_begin_as_trees_where_plain_features_say_nothing(validated: bool) -> None:
    """Beside the order of the candidates, trees need not be better by an error."""
    features = PRODUCT_SCORED.candidate_features.copy()
    features[:, :-2] = 1.0
    train = replace(
        PRODUCT_SCORED, candidate_features=features,
        candidate_score=np.zeros_like(PRODUCT_SCORED.candidate_score),
    )  # fmt: skip
    held = train.take(np.arange(20))
    held = replace(held, feedback=np.zeros_like(held.feedback))
    assert LinearStart(SPEC, train, held if validated else None, 4, 0).chosen == "trees"


def test_a_validation_part_without_a_positive_chooses_nothing() -> None:
    held = PRODUCT_SCORED.take(np.arange(50))
    held = replace(held, feedback=np.zeros_like(held.feedback))
    assert LinearStart(SPEC, PRODUCT_SCORED, held, 4, 0).chosen == "linear"


def test_trees_never_saw_the_users_that_they_score() -> None:
    columns = world("product")
    own = columns.users.id_row.numpy()[columns.user]
    chosen = own == own[0]
    feedback = columns.feedback.copy()
    shown = columns.shown.copy()
    shown[chosen] = 0
    other = replace(columns, shown=shown, feedback=feedback)
    changed, _ = scored(other)
    rows = columns.take(np.flatnonzero(chosen))
    fold = _candidate_folds(rows, 3, by_user=True)
    table = _features(rows)
    for before, after in ((PRODUCT.plain, changed.plain), (PRODUCT.counted, changed.counted)):
        assert before is not None
        assert after is not None
        same = [old == new for old, new in zip(before.texts, after.texts)]
        assert sorted(same) == [False, False, True]  # of the fold that scores this user
    # Up to the scale, which is that of all training scores.
    np.testing.assert_array_equal(PRODUCT.plain.raw(table, fold), changed.plain.raw(table, fold))
    for old, new in zip(PRODUCT.counts, changed.counts):
        same_counts = all(np.array_equal(a, new.arrays()[name]) for name, a in old.arrays().items())
        assert same_counts == (old is PRODUCT.counts[int(fold[0])])


def test_scores_do_not_depend_on_the_requests_beside() -> None:
    columns = world("product", 300, seed=3)
    some = np.array([5, 17, 200])
    alone = np.concatenate([PRODUCT.of(columns.take(np.array([row]))) for row in some])
    np.testing.assert_array_equal(PRODUCT.of(columns.take(some)), alone)


def test_scores_become_the_last_candidate_features() -> None:
    assert PRODUCT_SCORED.model_scores == len(PRODUCT.names) == 2
    assert PRODUCT_SCORED.own_features.shape[1] == PRODUCT_SCORED.candidate_features.shape[1] - 2
    last = PRODUCT_SCORED.candidate_features[:, -2:]
    assert np.abs(last.mean(0)).max() < 1e-4
    assert np.abs(last.std(0) - 1).max() < 1e-4
    batch = PRODUCT_SCORED.batch([0])
    known = batch.candidate_mask[0]
    torch.testing.assert_close(
        batch.candidate_features[0, known, -2:], torch.from_numpy(last[: int(known.sum())])
    )


def test_kept_on_disk_bit_for_bit(tmp_path: Path) -> None:
    assert PRODUCT.write(tmp_path) == [TreeScores.file, TreeScores.arrays]
    loaded = TreeScores.read(tmp_path, SPEC)
    assert loaded == PRODUCT
    columns = world("product", 50, seed=4)
    np.testing.assert_array_equal(loaded.of(columns), PRODUCT.of(columns))
    (tmp_path / TreeScores.arrays).unlink()
    with pytest.raises(BundleError, match="damaged"):
        TreeScores.read(tmp_path, SPEC)
    (tmp_path / TreeScores.file).write_text('{"texts": 3')
    with pytest.raises(BundleError, match="damaged"):
        TreeScores.read(tmp_path, SPEC)
    (tmp_path / TreeScores.file).unlink()
    with pytest.raises(BundleError, match="damaged"):
        TreeScores.read(tmp_path, SPEC)


def test_a_bundle_that_cannot_be_scored_is_refused_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PRODUCT.write(tmp_path)
    monkeypatch.setitem(sys.modules, "lightgbm", None)  # not installed
    with pytest.raises(MissingExtraError, match="trees"):
        TreeScores.read(tmp_path, SPEC)


Change = Callable[[Any], Any]


@pytest.mark.parametrize(("name", "change"), [
    ("0.pairs", lambda pairs: pairs[::-1]),
    ("0.pairs", lambda pairs: np.append(pairs[:-1], pairs[-2])),
    ("1.pairs", lambda pairs: np.append(-1, pairs[1:])),
    ("1.pairs", lambda pairs: np.append(pairs[:-1], SPEC.item_ids**2)),
    ("1.pairs", lambda pairs: pairs.astype(np.float32)),
    ("2.weights", lambda weights: weights[:-1]),
    ("2.weights", lambda weights: np.append(weights[:-1], np.float32(np.inf))),
    ("0.rate", lambda rate: rate[:-1]),
    ("0.popularity", lambda popularity: popularity * np.float32(np.nan)),
    ("0.popularity", lambda popularity: popularity[:, None]),
    ("2.rate", None),
])  # fmt: skip
def test_counts_that_do_not_fit_are_refused_when_they_are_read(
    tmp_path: Path, name: str, change: Change | None
) -> None:
    """They would be unlike those of training, or end the first request with an internal fault."""
    PRODUCT.write(tmp_path)
    arrays = load_file(tmp_path / TreeScores.arrays)
    old = arrays.pop(name)
    if change is not None:
        arrays[name] = np.ascontiguousarray(change(old))
    save_file(arrays, tmp_path / TreeScores.arrays)
    with pytest.raises(BundleError, match="damaged"):
        TreeScores.read(tmp_path, SPEC)


@pytest.mark.parametrize(("name", "change"), [
    ("mean", lambda mean: np.nan),
    ("deviation", lambda deviation: 0.0),
    ("by_user", lambda by_user: "yes"),
    ("texts", lambda texts: []),
    ("texts", lambda texts: texts[:2]),
    ("texts", lambda texts: ["no trees", *texts[1:]]),
    ("texts", lambda texts: [COUNTING, *texts[1:]]),
    ("counted", lambda counted: {**counted, "texts": counted["texts"][:2]}),
    ("counted", lambda counted: {**counted, "deviation": np.inf}),
    ("vectors", lambda vectors: [12]),
])  # fmt: skip
def test_trees_that_do_not_fit_are_refused_when_they_are_read(
    tmp_path: Path, name: str, change: Change
) -> None:
    PRODUCT.write(tmp_path)
    content = json.loads((tmp_path / TreeScores.file).read_text())
    content[name] = change(content[name])
    (tmp_path / TreeScores.file).write_text(json.dumps(content))
    with pytest.raises(BundleError, match="damaged"):
        TreeScores.read(tmp_path, SPEC)


@pytest.mark.parametrize(
    "other", [{"item_ids": 99}, {"candidate_features": 7}, {"user_numeric": 1}]
)
def test_trees_of_another_encoder_are_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    PRODUCT.write(tmp_path)
    with pytest.raises(BundleError, match="damaged"):
        TreeScores.read(tmp_path, replace(SPEC, **other))


def test_a_bundle_keeps_the_trees_of_its_encoder(tmp_path: Path) -> None:
    table = make_table(600, users=60)
    encoder = Encoder.fit(table)
    encoder, columns, _ = add_tree_scores(encoder, encoder.encode(table), folds=3, seed=0)
    config = RankerConfig(name="linear")
    bundle = Bundle(build_ranker(encoder.spec, config), config, encoder)
    kept = Bundle.load(bundle.save(tmp_path / "with")).encoder
    assert kept.model_scores == encoder.model_scores
    assert kept.spec == encoder.spec
    again = kept.encode(table).candidate_features
    np.testing.assert_array_equal(again, columns.candidate_features)
    bare = replace(encoder, model_scores=None)
    other = Bundle(build_ranker(bare.spec, config), config, bare).save(tmp_path / "without")
    PRODUCT.write(other)  # no file of the bundle, so not under its checksums
    assert Bundle.load(other).encoder.model_scores is None


def test_without_a_target_there_is_nothing_to_learn() -> None:
    """The last feedback type must not be taken for one."""
    columns = replace(world("product"), target=-1)
    _, same, said = add_tree_scores(PLAIN, columns, folds=3, seed=0)
    assert same is columns
    assert "no feedback type is the target" in said


def test_too_few_requests_and_switched_off_are_said() -> None:
    encoder, few = PLAIN, world("product", 30)
    same, columns, said = add_tree_scores(encoder, few, folds=3, seed=0)
    assert same is encoder
    assert columns is few
    assert "fewer than 200 requests" in said
    assert "switched off" in add_tree_scores(encoder, few, folds=0, seed=0)[2]
    with pytest.raises((ConfigError, ValueError), match="at least 2"):
        EncoderConfig(tree_folds=1)


def test_what_was_cut_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = world("product")
    whole = add_tree_scores(PLAIN, columns, folds=3, seed=0)[2]
    assert "2,400 requests" not in whole
    assert "most frequent" not in whole
    for name, most in (
        ("_MOST_ROWS", len(columns.candidates) // 2),
        ("_MOST_EVENTS", len(columns.history) // 4 + 1),
    ):
        monkeypatch.setattr(f"goalrank.encoders.tree_scores.{name}", most)
    for module in ("tree_scores", "training_counts"):
        monkeypatch.setattr(f"goalrank.encoders.{module}.MOST_LINKS", 7)
    said = add_tree_scores(PLAIN, columns, folds=3, seed=0)[2]
    assert "they learn from 1,200 of 2,400 requests" in said
    assert "counts are made on 600 of 2,400 requests" in said
    assert "they keep the 7 most frequent links per fold" in said


def test_requests_are_dealt_out_where_users_are_few() -> None:
    columns = world("product")
    one = replace(columns, user=np.ones_like(columns.user))
    scores, _ = scored(one)
    assert not scores.by_user
    assert len(set(scores.plain.texts)) == 3
    assert scores.counted is None  # later histories of a user hold the labels of earlier requests
    assert scores.names == ("tree_score",)


def test_what_version_0_2_0_wrote_is_read(tmp_path: Path) -> None:
    text = PRODUCT.plain.texts[0]
    old = {"texts": [text] * 3, "by_user": True, "mean": 0.5, "deviation": 2.0, "vectors": []}
    (tmp_path / TreeScores.file).write_text(json.dumps(old))
    found = TreeScores.read(tmp_path, SPEC)
    assert found == TreeScores(CrossFitted((text,) * 3, 0.5, 2.0), by_user=True)
    assert found.of(world("product", 20)).shape[1] == 1


def test_what_other_users_choose_is_learnt_by_the_trees_that_count() -> None:
    """Some items are chosen more often, which neither features nor histories of the request tell."""

    def popular(requests: int, seed: int) -> EncodedRequests:
        columns = make_requests(requests, 8, users=200, items=60, history=4, seed=seed)
        worth = np.random.default_rng(1).normal(size=1000)
        return choices(2 * worth[columns.items.id_row.numpy()[columns.candidates]], columns)

    scores, _ = scored(popular(2400, 0))
    test = popular(2000, 7)
    plain, counted = scores.of(test).T
    assert mean_rank(counted, test) < mean_rank(plain, test) - 1
    half, _, _ = add_tree_scores(PLAIN, popular(2400, 0), folds=2, seed=0)
    assert half.model_scores is not None
    assert half.model_scores.names == ("tree_score",)


def mean_rank(score: NDArray[np.float32], columns: EncodedRequests) -> float:
    """Mean place, from 0, of the chosen candidate by a score."""
    start, chosen = columns.candidate_start, columns.shown
    return float(np.mean([
        (score[a:b] > score[a + best]).sum() for (a, b), best in zip(pairwise(start), chosen)
    ]))  # fmt: skip


def test_what_the_history_says_of_a_candidate() -> None:
    columns = replace(make_requests(40, 6, history=6, items=5, seed=2), history_limit=4)
    own, shared = _in_history(columns)
    at = 0
    for r in range(len(columns)):
        a, b = columns.history_start[r : r + 2]
        events = range(max(a, b - 4), b)
        age = history_ages(np.repeat(columns.time[r], b - a), columns.history_time[a:b])
        for item in columns.candidates[slice(*columns.candidate_start[r : r + 2])]:
            same = [e for e in events if columns.history[e] == item]
            latest = (
                (age[same[-1] - a], columns.history_feedback[same[-1]]) if same else (-1.0, 0.0)
            )
            np.testing.assert_allclose(own[at], [len(same), *latest], rtol=1e-6)
            newest = age[-1] if len(events) else -1.0
            np.testing.assert_allclose(shared[at], [len(events), newest], rtol=1e-6)
            at += 1
    assert at == len(own)
