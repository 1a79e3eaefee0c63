"""`goalrank list-effects`: a whole study by the command, and its refusals."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_bad_input import assert_clean
from tests.tables import make_table

_TINY = ("--seeds", "0", "--set", "reward.loop.steps=2", "--bootstrap", "100")


def test_a_study(goalrank, data, tmp_path):
    out = tmp_path / "out"
    result = goalrank("list-effects", data, "--out", out, *_TINY, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads((out / "list-effects.json").read_text())
    assert found["requests"] == {"train": 60, "validation": 60, "test": 60}
    assert "3 of 3 models" in result.stderr
    assert "users dealt anew" not in result.stderr
    again = goalrank("list-effects", data, "--out", out, *_TINY)
    assert "| log loss saved |" in again.stdout


def test_help_has_examples(goalrank):
    assert "$ goalrank list-effects" in goalrank("list-effects", "--help").stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seeds", "0,one"), ("seeds '0,one'", "--seeds")),
        (("--seeds", "1,1"), ("seeds", "different")),
        (("--split", "half"), ("split", "'time' or 'random'")),
        (("--max-train", "-1"), ("max_train", "-1")),
        (("--bootstrap", "3"), ("bootstrap", "100")),
        (("--kind", "nonsense"), ("'nonsense' is absent", "--kind")),
        (("--set", "reward.name=simulated"), ("reward.name",)),
    ],
)
def test_bad_options(goalrank, data, tmp_path, options, words):
    result = goalrank("list-effects", data, "--out", tmp_path / "o", *options)
    assert_clean(result, 2, *words)


def test_a_retrieved_log(goalrank, tmp_path):
    for part in ("train", "test"):
        make_table(20, protocol="retrieved").write(tmp_path / "data" / f"{part}.parquet")
    result = goalrank("list-effects", tmp_path / "data", "--out", tmp_path / "o", *_TINY)
    assert_clean(result, 3, "protocol is 'retrieved'", "remedy")
