"""examples/plugin, installed as any package is, and used through the command line."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.kit import TINY

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"
ALLOW = ("--allow-plugin", "goalrank_example")
SMALL = [part for setting in (*TINY, "light=[]") for part in ("--set", setting)]
SUITE = """
name = "plugin"
slots = 3
seeds = [0]
main = "two_tower"
metric = "ndcg"
metrics = ["ndcg", "rbp"]
rankers = ["two_tower", "dnn", {{ name = "goalrank_example.two_tower:TwoTower", label = "by path" }}]
[[datasets]]
name = "mine"
source = "impressions"
path = "{log}"
[recipe]
light = []
[recipe.ranker]
width = 8
layers = 1
heads = 2
[recipe.training]
steps = 4
warmup = 1
batch_size = 16
validate_every = 2
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that sees the plug-in, installed by pip without a network."""
    work = tmp_path_factory.mktemp("plugin")
    source, target = work / "source", work / "target"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--disable-pip-version-check", "--target", str(target), str(source)],
        check=True, timeout=120, capture_output=True,
    )  # fmt: skip
    path = os.pathsep.join(p for p in (str(target), os.environ.get("PYTHONPATH", "")) if p)
    environment = {**os.environ, "PYTHONPATH": path, "GOALRANK_NO_PROGRESS": "1"}
    environment.pop("GOALRANK_ALLOW_PLUGINS", None)
    return environment


@pytest.fixture(scope="module")
def goalrank(installed: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the command line in a process of its own."""
    folder = tmp_path_factory.mktemp("work")

    def run(*arguments: Any, fails: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "goalrank", *map(str, arguments)],
            env=installed, cwd=folder, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == fails, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Impressions as JSON lines; even items are clicked more often."""
    draw, lines = random.Random(0), []
    for view in range(160):
        for slot, item in enumerate(draw.sample(range(30), 6)):
            clicked = draw.random() < (0.8 if item % 2 == 0 else 0.1)
            lines.append(
                json.dumps(
                    {"view": f"v{view}", "user": f"u{view % 12}", "item": f"i{item}", "slot": slot,
                     "at": 1_714_564_800 + 3600 * view, "clicked": clicked}
                )
            )  # fmt: skip
    path = tmp_path_factory.mktemp("log") / "impressions.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(goalrank: Run, log: Path) -> Path:
    """The log, imported by the plug-in's reader."""
    folder = log.parent / "data"
    goalrank("data", "import", "impressions", log, "--out", folder, "--no-features")
    return folder


@pytest.fixture(scope="module")
def tower(goalrank: Run, data: Path) -> Path:
    """The plug-in's ranker, trained by its own loss and saved."""
    out = data.parent / "tower"
    goalrank(
        "train", data, "--out", out, *SMALL, "--set", "ranker.name=two_tower",
        "--set", "ranker.options.scale=2.0", "--set", "objective.name=supervised",
        "--set", "training.steps=40", "--accelerator", "cpu",
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def taught(goalrank: Run, data: Path) -> Path:
    """GoalRank, taught by the plug-in's reward through the plug-in's objective."""
    out = data.parent / "taught"
    goalrank(
        "train", data, "--out", out, *SMALL, "--set", "objective.name=best_list",
        "--set", "reward.name=varied_gain", "--set", "reward.options.repeat=0.25",
        "--accelerator", "cpu",
    )  # fmt: skip
    return out


def test_doctor_lists_it(goalrank: Run):
    facts = json.loads(goalrank("doctor", "--json").stdout)
    found = {key: said for key, said in facts.items() if key.startswith("plug-in ")}
    assert set(found) == {
        "plug-in ranker two_tower", "plug-in reward varied_gain", "plug-in source impressions",
        "plug-in metric rbp", "plug-in objective best_list",
    }  # fmt: skip
    assert all("goalrank-example-plugin 1.0.0" in said for said in found.values())
    assert not any("broken" in said for said in found.values())


def test_its_own_tests_pass(installed: dict[str, str]):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(PLUGIN),
         str(PLUGIN / "tests")],
        env=installed, cwd=PLUGIN, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_reward_travels_with_the_bundle(taught: Path):
    manifest = json.loads((taught / "bundle" / "manifest.json").read_text())
    assert manifest["reward"]["class"] == "goalrank_example.varied_gain:VariedGain"
    assert manifest["reward"]["arguments"] == {"repeat": 0.25}
    assert manifest["plugins"] == {"goalrank_example": "goalrank-example-plugin==1.0.0"}


def test_its_bundles_are_evaluated_by_its_metric_once_allowed(
    goalrank: Run, data: Path, tower: Path, taught: Path
):
    asked = ["evaluate", "--bundle", tower, "--bundle", taught, "--data", data, "--slots", 3]
    asked += ["--metric", "rbp", "--bootstrap", 50, "--json"]
    refused = goalrank(*asked, fails=4)
    assert "--allow-plugin goalrank_example" in refused.stderr
    card = json.loads(goalrank(*asked, *ALLOW).stdout)
    assert set(card["rankers"]) == {"two_tower", "goalrank"}
    assert card["audit"]["metric"] == "rbp@3"
    for values in card["rankers"].values():
        assert 0 < values["rbp@3"]["mean"] < 1
    learned = card["rankers"]["two_tower"]["ndcg@3"]["mean"]
    assert learned > card["baselines"]["random"]["ndcg@3"]["mean"]


def test_a_bundle_without_its_plugin_says_what_to_install(tower: Path):
    done = subprocess.run(
        [sys.executable, "-m", "goalrank", "rank", "--bundle", str(tower), "--requests", "x",
         "--out", "l.parquet", *ALLOW],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "pip install 'goalrank-example-plugin==1.0.0'" in done.stderr


@pytest.fixture
def server(installed: dict[str, str], tower: Path, tmp_path: Path) -> Iterator[str]:
    """The address of `goalrank serve` with the plug-in's ranker."""
    pytest.importorskip("fastapi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "goalrank", "serve", "--bundle", str(tower), "--port", str(port),
         "--store", "none", *ALLOW],
        env=installed, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_it_is_served(server: str):
    import httpx

    candidates = [f"i{i}" for i in range(8)]
    body = {"user_id": "u1", "candidates": candidates, "slots": 3}
    deadline = time.monotonic() + 120
    while True:
        try:
            answer = httpx.post(f"{server}/v1/rank", json=body, timeout=30)
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.3)
    assert answer.status_code == 200, answer.text
    assert len(set(answer.json()["items"])) == 3
    assert "two_tower" in answer.text


def test_it_takes_rows_in_an_arena_table_with_its_metric(goalrank: Run, log: Path, tmp_path: Path):
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE.format(log=log.as_posix()), encoding="utf-8")
    out = tmp_path / "arena"
    goalrank("benchmark", "run", suite, "--out", out, "--jobs", 1)
    table = goalrank("benchmark", "table", out).stdout
    assert "rbp@3" in table
    rows = {line.split("|")[1].strip(" *") for line in table.splitlines() if line.startswith("|")}
    assert {"two_tower", "by path", "dnn"} <= rows
