"""The built wheel holds the whole package, and works away from the repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import goalrank

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "-w", str(out), str(source)],
        check=True,
    )  # fmt: skip
    (found,) = out.glob("*.whl")
    return found


def test_it_holds_every_file_of_the_package(wheel):
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "src/goalrank"],
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = {line.removeprefix("src/") for line in tracked.stdout.split()}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - held == set()
    assert not any(name.startswith(("tests/", "perf/")) for name in held)


def test_it_imports_trains_and_ranks(wheel, tmp_path):
    place = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(place)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env={"PYTHONPATH": str(place)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import goalrank; print(goalrank.__file__, goalrank.__version__)")
    assert str(place) in where
    assert goalrank.__version__ in where
    run("-m", "goalrank", "data", "import", "kuairand", "--out", "data")
    run("-m", "goalrank", "train", "data", "--set", "ranker.name=linear", "--set",
        "objective.name=supervised", "--out", "bundle")  # fmt: skip
    said = run("-m", "goalrank", "evaluate", "--bundle", "bundle", "--data", "data")
    assert "ndcg@" in said
    run("-m", "goalrank", "rank", "--bundle", "bundle", "--requests", "data/test.parquet", "--out",
        "lists.parquet")  # fmt: skip
    assert (tmp_path / "lists.parquet").exists()
