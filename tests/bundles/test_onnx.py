"""The exported decode: PyTorch's lists and log-probabilities, with and without rules."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from goalrank.bundles import ListGraph, Predictor, export_graph
from goalrank.bundles.onnx.export import export_main
from goalrank.bundles.onnx.graph import cached_graph, load_graph
from goalrank.bundles.synthetic import synthetic_requests
from goalrank.constraints import AtMost, Constraints, Diversity
from goalrank.errors import BundleError, ConfigError, MissingExtraError
from goalrank.rankers import Generator, Ranker, Scorer
from goalrank.requests import Batch, EncodedRequests
from goalrank.serving import Service
from tests.bundles.kit import make_bundle
from tests.rankers.kit import FACTORIES, SMALL, make_ranker, padded, rich_columns, shake, spec_of

BUNDLE = make_bundle(reward=False)
shake(BUNDLE.ranker, size=0.3)
ITEMS = pl.DataFrame({"item_id": range(60), "colour": [i % 3 for i in range(60)]})
NOW = datetime(2024, 6, 1, tzinfo=UTC)
COLUMNS = BUNDLE.encoder.encode_flat(BUNDLE.encoder.flat(synthetic_requests(BUNDLE.encoder, 6, 9)))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    pytest.importorskip("onnx", reason="extra onnx: onnx")
    pytest.importorskip("onnxscript", reason="extra onnx: onnxscript")
    pytest.importorskip("onnxruntime", reason="extra onnx: onnxruntime")
    found = export_graph(BUNDLE.ranker, COLUMNS, 4, tmp_path_factory.mktemp("graph") / "g.onnx")
    assert [each.name for each in found.parent.iterdir()] == ["g.onnx"]
    return found


@pytest.fixture(scope="module")
def graph(path):
    return ListGraph(path)


def rows(count: int, seed: int, most: int = 9) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    out = []
    for row in range(count):
        n, h = int(rng.integers(1, most + 1)), int(rng.integers(0, 6))
        out.append(
            {
                "request_id": f"g{seed}r{row}", "user_id": int(rng.integers(-2, 15)), "time": NOW,
                "history": rng.integers(0, 50, h).tolist(), "history_time": [NOW] * h,
                "candidates": rng.choice(50, n, replace=False).tolist(),
                "candidate_score": rng.normal(size=n).tolist(),
                "candidate_features": rng.normal(size=(n, 2)).tolist(),
            }
        )  # fmt: skip
    return out


_RULES = st.none() | st.builds(
    Constraints,
    blocked=st.lists(st.integers(0, 49), max_size=20, unique=True).map(tuple),
    pinned=st.dictionaries(st.integers(0, 1), st.integers(0, 49), max_size=2),
    at_most=st.sampled_from([(), (), (AtMost(by="colour", most=1, window=2),)]),
    diversity=st.sampled_from([None, None, Diversity(by="colour", weight=0.5)]),
)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    slots=st.integers(2, 6),
    side=st.booleans(),
    asked=st.lists(_RULES, min_size=1, max_size=4),
)
def test_lists_and_log_probabilities_equal_pytorchs(graph, seed, slots, side, asked):
    table = rows(len(asked), seed)
    items = ITEMS  # ids 40 … 49 are new to the encoder and ranked by the side table's features
    if side:
        items = ITEMS.with_columns(price=pl.col("item_id") * 1.0)
    want = Predictor(BUNDLE, items=items, missing="mean").rank(table, slots, rules=asked)
    engine = Predictor(BUNDLE, items=items, graph=graph, missing="mean")
    got = engine.rank(table, slots, rules=asked)
    assert [r.positions for r in got] == [r.positions for r in want]
    assert [r.relaxed for r in got] == [r.relaxed for r in want]
    np.testing.assert_allclose(
        [r.log_prob for r in got], [r.log_prob for r in want], atol=2e-5, rtol=1e-5
    )


def test_log_probabilities_are_those_of_the_given_lists(graph):
    table = [row for row in rows(60, 7) if len(row["candidates"]) >= 4][:20]
    ruled = [Constraints(blocked=(row["candidates"][0],)) for row in table]
    engine = Predictor(BUNDLE, graph=graph)
    for asked in (None, ruled):
        got = engine.rank(table, 3, rules=asked)
        exact = Predictor(BUNDLE).log_prob(table, [r.positions for r in got], 3, rules=asked)
        np.testing.assert_allclose([r.log_prob for r in got], exact, atol=2e-5)


def test_what_the_graph_cannot_rank_is_ranked_by_pytorch(graph):
    seen: list[tuple[str, int]] = []
    engine = Predictor(
        BUNDLE, items=ITEMS, graph=graph,
        observe=lambda _, columns, backend, lists: seen.append((backend, len(columns))),
    )  # fmt: skip
    table = rows(3, 1)
    tint = Constraints(diversity=Diversity(by="colour", weight=0.5))
    engine.rank(table, 4, rules=[None, tint, Constraints(blocked=(1,))])
    assert seen == [("onnx", 2), ("torch", 1)]
    seen.clear()
    engine.rank(table, 3)
    engine.rank(table, 5)
    engine.rank(table, 4, temperature=1.0)
    engine.rank(rows(40, 1), 4)
    assert seen == [("onnx", 3), ("torch", 3), ("torch", 3), ("torch", 40)]


def test_a_service_counts_backends_and_known_ids(path, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "goalrank.serving")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = BUNDLE.save(tmp_path / "bundle")
    kept = cached_graph(folder)
    assert load_graph(folder, export=False) is None
    assert Service(folder, backend="auto").predictors["default"].graph is None
    assert "--backend onnx" in caplog.text
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(path.read_bytes())
    # On a slow graph "auto" takes PyTorch (tests/serving/ranking/test_watcher.py).
    monkeypatch.setattr(Predictor, "choose_backend", lambda _: {})
    service = Service(folder, backend="auto")
    service.predictors["default"].rank(rows(2, 3))
    text = service.metrics.text().decode()
    assert 'goalrank_ranked_total{backend="onnx"} 2.0' in text
    assert 'goalrank_ids_total{known="yes",side="users"}' in text
    kept.write_bytes(b"damaged")
    assert Service(folder, backend="auto").predictors["default"].graph is None
    with pytest.raises(BundleError, match="exported again"):
        Service(folder, backend="onnx")


def generator(columns: EncodedRequests) -> Generator:
    torch.manual_seed(0)
    model = Generator(spec_of(columns), replace(SMALL, dropout=0.0), 4)
    shake(model, size=0.3)
    return model.eval()


def assert_graph_equals(model: Ranker, columns: EncodedRequests, exported: Path) -> int:
    """Compare lists and log-probabilities for many shapes; returns how many lists were short."""
    runner, short = ListGraph(exported), 0
    slots = runner.slots
    for rows_ in ([0], [1, 2], list(range(len(columns))), [len(columns) - 1]):
        for more in (0, 3):
            batch = padded(columns.batch(rows_), more) if more else columns.batch(rows_)
            want = model.rank(batch, slots)
            lists, log_prob = runner.rank(batch, slots)
            assert torch.equal(lists, want)
            exact = model.log_prob(batch, want[:, None])[:, 0].double()
            torch.testing.assert_close(log_prob, exact, atol=2e-5, rtol=1e-5)
            short += int((want < 0).any())
    return short


@torch.no_grad()
def test_any_batch_size_width_and_history(path, tmp_path):
    columns = rich_columns(9, 7, seed=3)
    model = generator(columns)
    short = assert_graph_equals(
        model, columns, export_graph(model, columns, 5, tmp_path / "g.onnx")
    )
    assert short > 0  # requests with fewer candidates than slots were among them


def test_what_cannot_be_exported_is_refused(path, tmp_path):
    columns = rich_columns(9, 7, seed=3)
    for name in ("pier", "trees over", "seq2slate"):
        with pytest.raises(ConfigError, match=r"cannot be exported.*backend torch"):
            export_graph(make_ranker(name, columns), columns, 4, tmp_path / "g.onnx")
    beam = generator(columns)
    beam.beam = 3
    with pytest.raises(ConfigError, match=r"ranker\.beam 1"):
        export_graph(beam, columns, 4, tmp_path / "g.onnx")
    with pytest.raises(ConfigError, match="slots = 0"):
        export_graph(generator(columns), columns, 0, tmp_path / "g.onnx")
    assert os.listdir(tmp_path) == []
    folder = make_bundle("seq2slate", reward=False).save(tmp_path / "b")
    assert Service(folder, backend="onnx").predictors["default"].graph is None


class ByNumber(Scorer):
    """Says that it has a graph, and asks a tensor for its number."""

    has_graph = True

    def scores(self, batch: Batch) -> Tensor:
        sign = 1 if float(batch.candidate_score.sum()) > 0 else -1
        return sign * batch.candidate_score


def test_a_ranker_without_the_graph_that_it_promised_is_named(path, tmp_path):
    columns = rich_columns(9, 7, seed=3)
    with pytest.raises(BundleError, match=r"^ByNumber says has_graph.*remedy.*backend torch$"):
        export_graph(ByNumber(), columns, 4, tmp_path / "g.onnx")
    assert os.listdir(tmp_path) == []


EXPORTABLE = ["dcn_v2", "din", "linear", "nar4rec", "prm", "rankmixer", "score mean", "setrank"]


def test_every_ranker_that_says_so_is_exported_here():
    columns = rich_columns(2, 7, seed=3)
    able = {name for name in FACTORIES if make_ranker(name, columns).exportable}
    assert able - set(EXPORTABLE) == {"dnn"} | {n for n in able if "generator" in n or "goalr" in n}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTABLE)
@torch.no_grad()
def test_graphs_of_rankers_give_pytorchs_lists(path, tmp_path, name):
    columns = rich_columns(9, 7, seed=3)
    model = make_ranker(name, columns)
    assert_graph_equals(model, columns, export_graph(model, columns, 5, tmp_path / "g.onnx"))


def test_a_scorer_is_served_from_its_graph_under_rules(path, tmp_path):
    bundle = make_bundle("dnn", reward=False)
    shake(bundle.ranker, size=0.3)
    exported = ListGraph(export_graph(bundle.ranker, COLUMNS, 4, tmp_path / "g.onnx"))
    table = rows(40, 5)
    blocked = [Constraints(blocked=tuple(row["candidates"][:2])) for row in table]
    seen: list[str] = []
    for asked in (None, blocked):
        want = Predictor(bundle).rank(table[:20], 4, rules=asked and asked[:20])
        engine = Predictor(bundle, graph=exported, observe=lambda *given: seen.append(given[2]))
        got = engine.rank(table[:20], 4, rules=asked and asked[:20])
        assert [r.positions for r in got] == [r.positions for r in want]
        np.testing.assert_allclose([r.log_prob for r in got], [r.log_prob for r in want], atol=2e-5)
    assert seen == ["onnx", "onnx"]
    assert_graph_equals(bundle.ranker, COLUMNS, tmp_path / "g.onnx")


def test_without_the_extra_it_is_named(monkeypatch, tmp_path):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"goalrank\[onnx\]"):
        export_graph(BUNDLE.ranker, COLUMNS, 4, tmp_path / "g.onnx")
    with pytest.raises(MissingExtraError, match=r"goalrank\[onnx\]"):
        ListGraph(tmp_path / "g.onnx")


@pytest.mark.slow
def test_a_graph_is_exported_once_in_a_process_apart(path, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = BUNDLE.save(tmp_path / "bundle")
    made = load_graph(folder, export=True)
    assert made is not None
    when = cached_graph(folder).stat().st_mtime_ns
    again = load_graph(folder, export=True)
    assert again is not None
    assert cached_graph(folder).stat().st_mtime_ns == when
    table = rows(5, 2)
    want = Predictor(BUNDLE).rank(table)
    assert [r.items for r in Predictor(BUNDLE, graph=again).rank(table)] == [r.items for r in want]


def test_the_graph_of_another_bundle_is_not_kept_as_this_ones(tmp_path, monkeypatch):
    """A folder that was replaced before the export left the new bundle's graph under the old name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "nice", lambda by: 0)
    folder = make_bundle().save(tmp_path / "bundle")
    kept = cached_graph(folder)
    folder.rename(tmp_path / "away")
    make_bundle(slots=3).save(folder)
    kept.parent.mkdir(parents=True)
    with pytest.raises(BundleError, match="was replaced before its graph was exported"):
        export_main(str(folder), str(kept))
    assert not kept.exists()
