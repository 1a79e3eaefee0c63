"""Bad input: one red screen that names value, rule and remedy; an exit code; no traceback."""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from goalrank import fit, load
from goalrank.recipes import recipe_path
from goalrank.requests import Requests
from goalrank.training import load_config
from tests.api.kit import TINY
from tests.tables import make_table


def assert_clean(result, code, *words):
    """Exit code, all words on stderr, no traceback, nothing on stdout."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    text = " ".join(result.stderr.split())
    for word in words:
        assert word in text, text


@pytest.mark.filterwarnings("always::goalrank.errors.RenamedSettingWarning")
def test_an_old_name_of_a_setting_is_named_in_one_line(goalrank, tmp_path):
    """The next fault ends the command, after the warning."""
    sets = ("--set", "objective.slots=0.5", "--set", "group.own=x")
    result = goalrank("train", tmp_path, "--out", tmp_path / "o", *sets)
    assert_clean(result, 2, "Warning: override 'objective.slots=0.5'", "slot_group_share", "own")
    assert ".py" not in result.stderr


def test_misspelt_column(goalrank, bundle, tmp_path):
    file = tmp_path / "requests.parquet"
    make_table(10).frame.rename({"candidates": "candidate"}).write_parquet(file)
    assert_clean(goalrank("data", "validate", file), 3, "'candidates'", "candidate")
    out = tmp_path / "lists.parquet"
    assert_clean(
        goalrank("rank", "--bundle", bundle, "--requests", file, "--out", out), 3, "candidates"
    )
    assert not out.exists()


def test_truncated_parquet(goalrank, bundle, tmp_path):
    file = tmp_path / "requests.parquet"
    make_table(200).write(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    out = tmp_path / "lists.parquet"
    result = goalrank("rank", "--bundle", bundle, "--requests", file, "--out", out)
    assert_clean(result, 3, "requests.parquet", "remedy")
    assert not out.exists()


def test_all_faults_of_a_table(goalrank, tmp_path):
    table = make_table(10)
    frame = table.frame.with_columns(
        shown=pl.when(pl.int_range(pl.len()) == 3).then([99]).otherwise("shown").cast(pl.List(pl.Int32)),
        request_id=pl.when(pl.int_range(pl.len()) == 5).then(pl.lit("s0r4")).otherwise("request_id"),
    )  # fmt: skip
    Requests(frame, info=table.info).write(tmp_path / "t.parquet")
    result = goalrank("data", "validate", tmp_path / "t.parquet", "--json")
    assert result.exit_code == 3
    faults = json.loads(result.stdout)["faults"]
    assert {(f["row"], f["rule"]) for f in faults} >= {(3, "position"), (5, "duplicate_id")}


@pytest.mark.parametrize("name", ["ranker.safetensors", "items.ids.parquet", "manifest.json"])
def test_changed_byte_in_a_bundle(goalrank, bundle, data, tmp_path, name):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 4
    (copy / name).write_bytes(bytes(content))
    result = goalrank("rank", "--bundle", copy, "--requests", data / "test.parquet",
                      "--out", tmp_path / "lists.parquet")  # fmt: skip
    assert_clean(result, 4, name, "remedy")


def test_bundle_of_another_version(goalrank, bundle, data, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    result = goalrank("evaluate", "--bundle", copy, "--data", data)
    assert_clean(result, 4, "format 99", "pip install --upgrade goalrank")


def test_unknown_ranker(goalrank, data, tmp_path):
    result = goalrank("train", data, "--out", tmp_path / "o", "--set", "ranker.name=golrank")
    assert_clean(result, 2, "golrank", "did you mean 'goalrank'", "ranker.name")


def test_several_faults_of_a_recipe_at_once(goalrank, data, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("colour = 'red'\n[training]\nlr = -1\n")
    result = goalrank("train", data, "--config", recipe, "--set", "group.own=x", "--out", tmp_path)
    assert_clean(result, 2, "3 setting(s)", "colour", "training.lr", "group.own")


def test_missing_folders_and_names(goalrank, data, bundle, tmp_path):
    assert_clean(goalrank("audit", tmp_path / "none"), 3, "data import")
    assert_clean(goalrank("train", tmp_path, "--out", tmp_path / "o"), 3, "train.parquet")
    assert_clean(goalrank("demo", "--dataset", "netflix", "--out", tmp_path), 2, "movielens-small")
    assert_clean(goalrank("data", "import", "kuairnd"), 2, "kuairand")
    assert_clean(
        goalrank("data", "import", "kuairand", "--set", "strides=3"), 2, "did you mean 'stride'"
    )
    assert_clean(
        goalrank("evaluate", "--bundle", f"a={bundle}", "--bundle", f"a={bundle}", "--data", data),
        2, "--bundle NAME=FOLDER",
    )  # fmt: skip


def test_unknown_options_are_usage_errors(goalrank, data):
    result = goalrank("audit", data, "--slot", 3)
    assert result.exit_code == 2
    assert "--slots" in result.stderr


def test_a_fault_of_ours_is_said_to_be_one(goalrank, data, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("goalrank.api.audit_table", broken)
    assert_clean(goalrank("audit", data), 70, "a fault of goalrank", "--debug")
    assert isinstance(goalrank("--debug", "audit", data).exception, KeyError)
    goalrank("--version")


def command(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    code = "from goalrank.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


def test_full_disk_while_ranking(bundle, data, tmp_path):
    out = tmp_path / "lists.parquet"
    out.write_bytes(b"yesterday's lists")
    process = command(
        "rank", "--bundle", bundle, "--requests", data / "test.parquet", "--out", out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
    )  # fmt: skip
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 3, stderr
    assert "untouched" in stderr
    assert "Traceback" not in stderr
    assert out.read_bytes() == b"yesterday's lists"
    assert [p.name for p in tmp_path.iterdir()] == ["lists.parquet"]


def test_interrupted_training_goes_on_to_the_same_end(goalrank, data, tmp_path):
    settings = [*TINY, "training.steps=40", "training.validate_every=5", "training.patience=0"]
    options = [part for s in settings for part in ("--set", s)]
    out = tmp_path / "run"
    # A shell's background jobs ignore interrupts, and so would their children.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = command("train", data, "--out", out, *options, preexec_fn=heard)
    checkpoint = out / "run" / "goalrank" / "checkpoints" / "last.ckpt"
    _wait(checkpoint, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    assert not (out / "bundle").exists()

    assert_clean(goalrank("train", data, "--out", out, *options), 4, "unfinished job", "--resume")
    result = goalrank("train", data, "--out", out, *options, "--resume")
    assert result.exit_code == 0, result.output
    tables = [Requests.read(data / f"{part}.parquet") for part in ("train", "validation", "test")]
    whole = fit(*tables[:2], config=load_config(recipe_path("default"), settings), progress=False)
    again, straight = load(out).rank(tables[2]), whole.rank(tables[2])
    assert again.drop("log_prob").equals(straight.drop("log_prob"))


def _wait(path: Path, process: subprocess.Popen[str]) -> None:
    """Until the file is there; fails if the process ends first."""
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
