"""The registry and the loop by the command line: words for people, JSON and exit codes for machines."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from goalrank.cli.commands.models import FOUND_BAD
from goalrank.models import ModelRegistry, Reason
from goalrank.requests import Requests
from tests.bundles.kit import make_bundle
from tests.tables import make_table

QUICK = [
    part
    for text in (
        "recipe.light=[]", "recipe.ranker.name='linear'", "recipe.ranker.slots=3",
        "recipe.objective.name='supervised'", "window.requests=20", "gate.bootstrap=50",
        "gate.lead_kept=0.0",
    )
    for part in ("--set", text)
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory, bundle) -> Path:
    """Two versions and one that was turned down; the first is champion."""
    folder = tmp_path_factory.mktemp("models") / "models"
    registry = ModelRegistry(folder)
    registry.adopt(bundle)
    registry.add(make_bundle(reward=False, slots=3))
    no = (Reason(check="ndcg@3", passed=False, said="it fell"),)
    registry.add(make_bundle(reward=False), accepted=False, reasons=no)
    registry.promote(1)
    return folder


def test_list_and_show(goalrank, models):
    said = goalrank("models", "list", "--models", models).stdout
    assert "champion" in said
    assert "previous" not in said  # it leads to the champion as long as there was no other
    assert "refused: ndcg@3" in said
    found = json.loads(goalrank("models", "list", "--models", models, "--json").stdout)
    assert found["pointers"] == {"champion": 1, "canary": 1, "previous": 1}
    assert [each["state"] for each in found["versions"]] == ["champion", "challenger", "refused"]
    said = goalrank("models", "show", "3", "--models", models).stdout
    assert "REFUSED ndcg@3: it fell" in said
    shown = json.loads(goalrank("models", "show", "champion", "--models", models, "--json").stdout)
    assert shown["version"] == 1
    assert shown["moves"][0]["kind"] == "promote"


def test_an_empty_registry(goalrank, tmp_path):
    assert "no version yet" in goalrank("models", "list", "--models", tmp_path / "none").stdout
    result = goalrank("models", "show", "1", "--models", tmp_path / "none")
    assert result.exit_code == 2
    assert "goalrank models add" in result.stderr


def test_promote_roll_back_and_compare(goalrank, models):
    refused = goalrank("models", "promote", "3", "--models", models)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert goalrank("models", "promote", "2", "--pointer", "x", "--models", models).exit_code == 2
    done = goalrank("models", "promote", "2", "--models", models, "--reason", "fresher")
    assert "version 2 is the champion" in done.stdout
    assert "fresher" in goalrank("models", "show", "2", "--models", models).stdout
    said = goalrank("models", "diff", "previous", "champion", "--models", models).stdout
    assert "ranker.slots: 4 -> 3" in said
    back = goalrank("models", "rollback", "--models", models, "--json")
    assert json.loads(back.stdout)["version"] == 1


def test_a_bundle_is_added_with_what_it_was_trained_on(goalrank, bundle, tmp_path):
    folder = tmp_path / "models"
    done = goalrank("models", "add", bundle, "--models", folder, "--trained-to", "2026-11-01")
    assert done.exit_code == 0, done.output
    trained = ModelRegistry(folder).get(1).record.trained
    assert trained is not None
    assert trained.last.isoformat() == "2026-11-01T00:00:00+00:00"
    assert goalrank("models", "add", tmp_path, "--models", folder).exit_code == 4


def test_addresses_are_refused_with_the_option(goalrank):
    result = goalrank("models", "list", "--models", "s3://bucket/models")
    assert result.exit_code == 2
    assert "option: models" in result.stderr


def test_the_loop(goalrank, data, tmp_path):
    """First version; the same again; more data that the gate refuses."""
    folder, mine = tmp_path / "models", tmp_path / "data"
    mine.mkdir()
    for file in data.glob("*.parquet"):
        (mine / file.name).write_bytes(file.read_bytes())
    command = ["retrain", "--data", mine, "--models", folder, "--store", "none", *QUICK]
    first = goalrank(*command, "--set", "window.hours=2000")
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines()[-1] == "promoted: version 1"
    begun = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*) …$", first.stderr, re.MULTILINE)
    assert begun[:2] == ["reading the data", "encoding the requests and training"]
    assert begun[-1] == "registering the version"
    again = goalrank(*command, "--set", "window.hours=2000", "--json")
    assert json.loads(again.stdout)["outcome"] == "known"
    late = make_table(80, seed=9)
    days = late.frame.with_columns(time=late.frame["time"] + timedelta(days=900))
    more = Requests(days, items=late.items, users=late.users, info=late.info)
    more = Requests(more.frame, items=more.items, info=Requests.read(mine / "test.parquet").info)
    Requests.append(mine / "test.parquet", more)
    strict = [*command, "--set", "gate.require=better", "--json"]
    for option, outcome in (("--dry-run", "dry run"), ("--wait", "refused"), ("--wait", "known")):
        result = goalrank(*strict, option)
        assert result.exit_code == FOUND_BAD, result.output
        found = json.loads(result.stdout)
        assert (found["accepted"], found["outcome"]) == (False, outcome)
        assert ("REFUSED ndcg@3" in result.stderr) == (outcome != "known")
    assert [v.state for v in ModelRegistry(folder).versions()] == ["champion", "refused"]
    goalrank("models", "promote", "2", "--force", "--models", folder)
    assert goalrank(*strict).exit_code == 0  # somebody knew better


def test_faults_of_the_loop_name_the_option(goalrank, data, tmp_path):
    command = ["retrain", "--models", tmp_path / "m", "--store", "none"]
    result = goalrank(*command, "--data", tmp_path)
    assert result.exit_code == 3
    assert "option: --data" in result.stderr
    result = goalrank(*command, "--data", data, "--set", "gate.margin")
    assert result.exit_code == 2
    assert "NAME=VALUE" in result.stderr
    result = goalrank(*command, "--data", data, "--settings", tmp_path / "no.toml")
    assert "option: --settings" in result.stderr
    assert not (tmp_path / "m" / "versions").exists()
