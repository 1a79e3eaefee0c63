"""Each verb does its work, in words for people and in JSON for machines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest

from goalrank import __version__, load
from goalrank.requests import Requests
from tests.tables import make_table

VERBS = ["demo", "train", "evaluate", "rank", "audit", "doctor", "data import", "data embed", "data fetch",
         "data validate", "data describe", "theory run", "world describe", "world fit", "world online", "world sample", "benchmark run", "benchmark table", "benchmark publish",
         "scaling run", "scaling quality", "serve", "store export", "ab plan", "ab report", "ope", "retrain", "models list",
         "models show", "models add", "models promote", "models rollback", "models diff",
         "models check"]  # fmt: skip
_WORLD = Path(__file__).parents[2] / "configs" / "worlds" / "tiny.toml"


def test_help_loads_no_heavy_library():
    code = (
        "import sys; sys.argv = ['goalrank', '--help']\n"
        "from goalrank.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'polars', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Examples" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(goalrank, verb):
    result = goalrank(*verb.split(), "--help")
    assert result.exit_code == 0
    assert f"$ goalrank {verb}" in result.stdout


def test_version(goalrank):
    assert __version__ in goalrank("--version").stdout


def test_train_evaluate_rank(goalrank, data, tiny, tmp_path):
    out = tmp_path / "lr=3"  # a folder may be called like NAME=FOLDER
    result = goalrank("train", data, "--out", out, *tiny, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["bundle"] == str(out / "bundle")
    assert set(content["seconds"]) == {"prm", "reward-0", "goalrank"}
    assert "small data" in result.stderr

    report = tmp_path / "report.html"
    result = goalrank(
        "evaluate", "--bundle", f"mine={out}", "--bundle", out, "--data", data, "--slots", 3,
        "--bootstrap", 50, "--report", report,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "mine" in result.stdout
    assert "small data" in result.stdout
    assert re.search("(A|best) baseline", " ".join(result.stdout.split()))
    assert "mine" in report.read_text()
    assert f"wrote {report}" in " ".join(result.stdout.split())

    lists = tmp_path / "lists.parquet"
    requests = data / "test.parquet"
    result = goalrank("rank", "--bundle", out, "--requests", requests, "--out", lists, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"out": str(lists), "requests": 60}
    assert (
        pl.read_parquet(lists)
        .drop("log_prob")
        .equals(load(out).rank(Requests.read(requests)).drop("log_prob"))
    )


def test_audit_needs_no_model(goalrank, data):
    result = goalrank("audit", data, "--bootstrap", 50, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["rankers"] == {}
    assert "popularity" in content["baselines"]
    assert content["warning"] == "small data"
    text = goalrank("audit", data, "--bootstrap", 50).stdout
    assert "popularity" in text
    assert "Warning: small data" in text


def test_doctor(goalrank):
    content = json.loads(goalrank("doctor", "--json").stdout)
    assert content["goalrank"] == __version__
    assert content["cores"] >= 1
    assert "torch" in goalrank("doctor").stdout
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"dev", "docs"}  # of contributors
    assert extras == {name.split()[1] for name in content if name.startswith("extra ")}


def test_json_is_alone_on_stdout(goalrank, monkeypatch):
    def noisy() -> dict[str, int]:
        print("a library says hello")
        return {"cores": 1}

    monkeypatch.setattr("goalrank.cli.commands.doctor._facts", noisy)
    result = goalrank("doctor", "--json")
    assert json.loads(result.stdout) == {"cores": 1}
    assert "hello" in result.stderr


def test_describe_and_validate(goalrank, data):
    file = data / "train.parquet"
    content = json.loads(goalrank("data", "describe", file, "--json").stdout)
    assert content["requests"] == 60
    assert content["target"] == "click"
    assert 0 < content["feedback_means"]["click"] < 1
    assert "60 rows" in goalrank("data", "describe", file).stdout
    assert json.loads(goalrank("data", "validate", file, "--json").stdout)["faults"] == []


@pytest.mark.parametrize("features", [True, False])
def test_import_of_exposures(goalrank, tmp_path, features):
    rows = make_table(200).frame.select("request_id", "user_id", "time", "candidates", "feedback")
    rows = rows.with_columns(clicked=pl.col("feedback").struct.field("click")).drop("feedback")
    rows = rows.explode("candidates", "clicked")
    rows.write_csv(tmp_path / "log.csv")
    result = goalrank(
        "data", "import", "exposures", tmp_path / "log.csv", "--out", tmp_path / "data",
        "--columns", "item_id=candidates", "--columns", "click=clicked", "--set", "min_list=1",
        "--features" if features else "--no-features", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    train = Requests.read(tmp_path / "data" / "train.parquet")
    assert report["counts"]["train"] == len(train)
    assert train.info.feedback_kinds == ("click",)
    assert bool(train.info.candidate_features) is features
    assert ("candidate_features" in train.frame.columns) is features


def test_fetch_without_network_names_a_way_out(goalrank, tmp_path, monkeypatch):
    import urllib.error
    import urllib.request

    def down(*_: object, **__: object) -> None:
        raise urllib.error.URLError("unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", down)
    result = goalrank("data", "fetch", "ml-1m", "--to", tmp_path)
    assert result.exit_code == 5
    assert "no network" in result.stderr


def test_world_sample_to_file_and_folder(goalrank, tmp_path):
    for out in (tmp_path / "w.parquet", tmp_path / "w"):
        result = goalrank("world", "sample", _WORLD, "--requests", 50, "--out", out, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["requests"] == 50
    one, many = Requests.read(tmp_path / "w.parquet"), Requests.read(tmp_path / "w")
    assert one.frame.equals(many.frame)


def test_world_fit_to_a_log_and_describe(goalrank, data, tmp_path):
    like = tmp_path / "like.toml"
    like.write_text("clusters = 4\ncandidates = 6\nslots = 3\n")
    out = tmp_path / "mine"
    fit = ("world", "fit", data, "--like", like, "--out", out, "--width", 4)
    result = goalrank(*fit, "--json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    seen = pl.concat(
        Requests.read(data / f"{part}.parquet").frame for part in ("train", "validation", "test")
    )
    assert made["users"] == seen["user_id"].n_unique()
    assert made["pairs"] > seen.explode("history").select("user_id", "history").n_unique()
    again = goalrank(*fit)
    assert again.exit_code == 3
    assert "--out" in again.output

    one = tmp_path / "one"  # a single table is a log too
    result = goalrank(*fit[:2], data / "train.parquet", *fit[3:6], one, "--name", "single")
    assert result.exit_code == 0, result.output
    assert f"goalrank world sample {one / 'world.toml'}" in " ".join(result.stdout.split())
    result = goalrank("world", "describe", one / "world.toml", "--requests", 20, "--json")
    found = json.loads(result.stdout)
    assert found["name"] == "single"
    assert found["rows"]["near-optimum"]["regret"] == 0
    shown = goalrank("world", "describe", one / "world.toml", "--requests", 20).stdout
    assert f"{found['rows']['random']['reward']:.3f}" in shown
    nothing = goalrank("world", "fit", tmp_path, "--like", like, "--out", tmp_path / "none")
    assert nothing.exit_code == 3
    assert "train.parquet" in nothing.output


def test_demo(goalrank, tiny, tmp_path, monkeypatch):
    from goalrank.logs import ImportResult

    train, validation, test = (make_table(60, seed=s) for s in range(3))
    monkeypatch.setattr(
        "goalrank.api.demo.import_log",
        lambda *_: ImportResult(train, validation, test, {"dataset": "small"}),
    )
    result = goalrank("demo", "--out", tmp_path / "out", *tiny, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "results.json").read_text())
    text = goalrank("demo", "--out", tmp_path / "out", *tiny)
    assert "best_of_100" in text.stdout
    assert "report.html" in " ".join(text.stderr.split())
    said = " ".join(text.stdout.split())
    places = [
        said.index(name) for name in ("best_of_100", "How much better", "How sure", "What next")
    ]
    assert places == sorted(places)
    assert "/report.html." in said[places[-1] :].replace(" ", "")
    assert "are not told apart" not in said  # the three lines say it


def test_entry_point_runs():
    command = Path(sys.executable).with_name("goalrank")
    if not command.exists():
        pytest.skip("goalrank is not installed beside this python")
    done = subprocess.run(
        [str(command), "doctor", "--json"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["goalrank"] == __version__
