"""goalrank events replay: a log into the store of a server, each row once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from goalrank import fit
from goalrank.cli.application import app
from goalrank.logs import LearntRetrieval, import_dataset, read_log
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.live import LiveState
from goalrank.serving.store.database import open_engine
from tests.logs.logs_data import exposures, kuairand_folder, movielens_folder
from tests.serving.state.test_replay import compare, earlier_views, every_request

OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 12, "stride": 5, "history": 20}
LINEAR = {"ranker.name": "linear", "objective.name": "supervised", "light": []}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a log of exposures that has an earlier history, its import, and a run."""
    folder = tmp_path_factory.mktemp("replay")
    path = kuairand_folder(folder / "log", exposures(users=20, rows=40))
    earlier_views(path)  # user 0 watched item 3 twice at one moment
    options = {**OPTIONS, "max_list": 6}
    import_dataset("kuairand", path, options, out=folder / "data")
    fit(folder / "data" / "train.parquet", overrides=LINEAR, out=folder / "run", progress=False)
    return folder


def command(folder, store, *more, source="kuairand"):
    return CliRunner().invoke(
        app,
        ["events", "replay", source, str(folder / "log"), "--bundle", str(folder / "run"),
         "--store", store, "--json", *more],
    )  # fmt: skip


def test_a_replayed_log_gives_the_numbers_of_its_import(made, tmp_path):
    store = f"sqlite:///{tmp_path / 's.db'}"
    done = command(made, store)
    assert done.exit_code == 0, done.output
    raw = read_log("kuairand", made / "log", {**OPTIONS, "max_list": 6})
    assert raw.prior is not None
    assert raw.prior.n_unique() < raw.prior.height
    rows = raw.events.height + raw.prior.height
    assert json.loads(done.stdout) == {"stored": rows, "duplicates": 0, "position": rows}
    frame, info = every_request(made / "data")
    live = LiveState(info, LearntRetrieval.load(made / "data" / "retrieval"))
    for part in EventLog(open_engine(store)).after(0, 500):
        live.add(part.events)
    never = np.iinfo(np.int64).max  # linked features are compared elsewhere
    assert compare(live, frame, info, never) > 20 * frame.height


def test_again_adds_nothing(made, tmp_path):
    store = f"sqlite:///{tmp_path / 's.db'}"
    first = json.loads(command(made, store).stdout)
    again = json.loads(command(made, store).stdout)
    assert again == {**first, "stored": 0, "duplicates": first["stored"]}


def test_a_log_of_another_shape_is_refused(made, tmp_path):
    movielens_folder(tmp_path / "log")
    (tmp_path / "run").symlink_to(made / "run")
    done = command(tmp_path, f"sqlite:///{tmp_path / 's.db'}", source="movielens")
    assert done.exit_code != 0
    assert "log of interactions, but the model was trained on one of exposures" in " ".join(
        done.output.split()
    )
    assert EventLog(open_engine(f"sqlite:///{tmp_path / 's.db'}")).last == 0
