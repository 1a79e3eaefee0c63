"""goalrank events compare: a whole log through a server's state, against its import."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from goalrank.cli.application import app
from goalrank.errors import ConfigError
from goalrank.features.counted import Rates
from goalrank.features.online.row_pool import RowPool
from goalrank.logs import LearntRetrieval, import_dataset, read_log
from goalrank.requests import Requests
from goalrank.serving import compare_log
from goalrank.serving.state.comparison.cell_counts import CellCounts
from goalrank.serving.state.linked import Linked
from tests.logs.logs_data import exposures, kuairand_folder, movielens_folder
from tests.serving.state.test_replay import earlier_views

OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 12, "stride": 5, "history": 20}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A log of ratings and its import."""
    folder = tmp_path_factory.mktemp("films")
    path = movielens_folder(folder / "log")
    import_dataset("movielens", path, {**OPTIONS, "min_positives": 0}, out=folder / "data")
    return folder


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """A log of exposures with an earlier history, and its import."""
    folder = tmp_path_factory.mktemp("views")
    path = kuairand_folder(folder / "log", exposures(users=20, rows=40))
    earlier_views(path)
    import_dataset("kuairand", path, {**OPTIONS, "max_list": 6}, out=folder / "data")
    return folder


@pytest.fixture(scope="module")
def clicks(views, tmp_path_factory):
    """The same log, of which the import took the clicks alone."""
    folder = tmp_path_factory.mktemp("clicks")
    (folder / "log").symlink_to(views / "log")
    options = {**OPTIONS, "protocol": "retrieved", "min_positives": 0}
    import_dataset("kuairand", folder / "log", options, out=folder / "data")
    return folder


def run(source, folder, *more):
    command = ["events", "compare", source, str(folder / "log"), "--data", str(folder / "data")]
    return CliRunner().invoke(app, [*command, "--json", *more])


def found_by(source, folder, *more):
    """What the command found, and columns that differ."""
    done = run(source, folder, *more)
    found = json.loads(done.stdout)
    assert done.exit_code == (20 if found["different"] else 0)
    return found, {column["name"] for column in found["columns"] if column["different"]}


@pytest.mark.parametrize(
    ("source", "log"), [("movielens", "films"), ("kuairand", "views"), ("kuairand", "clicks")]
)
def test_an_import_and_a_server_agree(source, log, request):
    folder = request.getfixturevalue(log)
    found, wrong = found_by(source, folder)
    assert (wrong, found["first"], found["different"]) == (set(), [], 0)
    report = json.loads((folder / "data" / "import.json").read_text())
    parts = sum(report["counts"][part] for part in ("train", "validation", "test"))
    assert found["requests"] == parts > found["linked"] > 5
    names = {column["name"]: column["compared"] for column in found["columns"]}
    kept = {"history", "history_feedback", "history_time", *report["candidate_features"]}
    retrieval = {"candidate_score", "retrieved candidates"} if log != "views" else set()
    assert set(names) == kept | retrieval
    assert all(count > 0 for count in names.values())
    cells = names["log_popularity"]
    assert cells > 2 * parts
    assert 0 < names["transition_last"] < cells


def test_clicks_by_another_target_are_refused(clicks):
    raw = read_log("kuairand", clicks / "log", {**OPTIONS, "target": "long_view"})
    table = Requests.read(clicks / "data" / "test.parquet")
    with pytest.raises(ConfigError, match=r"rows with click > 0, but .* target long_view"):
        compare_log(raw, [table], LearntRetrieval.load(clicks / "data" / "retrieval"))


def test_a_feature_that_a_server_counts_in_another_way_is_named(films, monkeypatch):
    plain = Rates.values
    monkeypatch.setattr(Rates, "values", lambda self, past: [100 * v for v in plain(self, past)])
    found, wrong = found_by("movielens", films)
    assert wrong == {name for name in wrong if name.endswith("_rate")} != set()
    first = found["first"][0]
    assert first["served"] == pytest.approx(100 * first["imported"])
    assert first["column"] in wrong
    assert len(found["first"]) == 20


def test_a_lost_history_is_found(films, monkeypatch):
    plain = RowPool.add

    def forgetful(self, user, item, time, marks, values):
        return plain(self, user[1:], item[1:], time[1:], marks[1:], [v[1:] for v in values])

    monkeypatch.setattr(RowPool, "add", forgetful)
    _, wrong = found_by("movielens", films)
    assert {"history", "history_time", "retrieved candidates"} <= wrong


def test_other_candidates_are_found(films, monkeypatch):
    plain = Linked.retrieve

    def turned(self, users, count=None, *, exclude_seen=None):
        return plain(self, users, count, exclude_seen=False)

    monkeypatch.setattr(Linked, "retrieve", turned)
    _, wrong = found_by("movielens", films)
    assert wrong == {"retrieved candidates"}


def test_some_requests_are_drawn_by_a_seed(films):
    counts = [found_by("movielens", films, "--requests", "40", "--seed", seed)[0] for seed in "112"]
    assert [found["requests"] for found in counts] == [40] * 3
    assert counts[0] == counts[1] != counts[2]


def test_people_are_told(films):
    command = ["events", "compare", "movielens", str(films / "log"), "--data"]
    done = CliRunner().invoke(app, [*command, str(films / "data")])
    assert done.exit_code == 0, done.output
    assert "0 differ by more than 10⁻⁶" in " ".join(done.stdout.split())
    assert "log_popularity" in done.stdout
    done = CliRunner().invoke(app, [*command, str(films / "log")])
    assert done.exit_code == 3
    assert "holds no import.json that says how it was imported" in " ".join(done.output.split())


def test_an_import_of_an_earlier_version_is_refused(films):
    raw = read_log("movielens", films / "log", OPTIONS)
    learnt = LearntRetrieval.load(films / "data" / "retrieval")
    assert learnt is not None
    old = LearntRetrieval(learnt.items, learnt.known, learnt.shares, learnt.scorers, learnt.depth)
    with pytest.raises(ConfigError, match="does not say when its retrieval was learnt"):
        compare_log(raw, [Requests.read(films / "data" / "test.parquet")], old)


def test_missing_cells_and_no_numbers_differ():
    counts = CellCounts(["a"])
    counts.lists("history", "r", [1, 2, 3], [1, 2])
    counts.items("score", "r", {1: 0.5, 2: 0.25}, {1: 0.5, 3: 0.25})
    nan = np.array([[np.nan], [1.0], [np.nan]], np.float32)
    counts.features("r", [7, 8, 9], nan, np.ones((3, 1), np.float32) + nan * 0, np.array([True]))
    counts.features("r", [7, 8, 9], nan, np.ones((3, 1), np.float32), np.array([True]))
    columns, first = counts.result
    assert [(c.name, c.compared, c.different) for c in columns] == [
        ("history", 3, 1), ("score", 3, 2), ("a", 6, 2),
    ]  # fmt: skip
    assert [(d.column, d.item) for d in first] == [
        ("history", 2), ("score", 2), ("score", 3), ("a", 7), ("a", 9),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("source", ["movielens", "kuairand"])
def test_the_shipped_logs(source, tmp_path):
    import_dataset(source, None, out=tmp_path / "data")
    command = ["events", "compare", source, "--data", str(tmp_path / "data"), "--json"]
    done = CliRunner().invoke(app, command)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["different"], found["first"]) == (0, 0, [])
    assert found["compared"] > 1_000_000


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("GOALRANK_DATA"), reason="needs GOALRANK_DATA with ml-1m")
def test_movielens_1m(tmp_path):
    path = Path(os.environ["GOALRANK_DATA"]) / "ml-1m"
    import_dataset("movielens", path, out=tmp_path / "data")
    command = ["events", "compare", "movielens", str(path), "--data", str(tmp_path / "data")]
    done = CliRunner().invoke(app, [*command, "--requests", "2000", "--json"])
    found = json.loads(done.stdout)
    assert (done.exit_code, found["different"], found["first"]) == (0, 0, [])
    assert found["linked"] > 300
