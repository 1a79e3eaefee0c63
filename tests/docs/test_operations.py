"""docs/operations.md: its commands run, and what it names is there."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from goalrank import errors
from goalrank.serving import ServeSettings, Store, check_store
from goalrank.serving.observability.metrics import Metrics
from goalrank.serving.state.metrics import StateMetrics
from goalrank.settings import read_toml
from tests.docs.runner import blocks, commands, run
from tests.serving.store.test_store import events, exposures
from tests.tables import make_table

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "operations.md"


def test_every_command_of_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = make_table(48)
    late = exposures(make_table(10, seed=5))
    with Store("sqlite:///goalrank.db") as store:
        store.describe(table.info)
        store.record(exposures(table))
        store.feedback(events(table))
        now = datetime.now(UTC)
        store.record([replace(each, request_id=f"n{i}", time=now) for i, each in enumerate(late)])
    done = run(DOCUMENT)
    verbs = [" ".join(command.split()[1:3]) for command in done]
    assert verbs == [
        f"store {name}" for name in ("check", "backup", "check", "purge", "compact", "export")
    ]
    assert check_store("sqlite:///copies/monday.db").exposures == 58
    assert check_store("sqlite:///goalrank.db").exposures == 10


def test_settings_of_the_document(tmp_path):
    found = {
        block.language: block for block in blocks(DOCUMENT) if block.language in ("sh", "toml")
    }
    (tmp_path / "serve.toml").write_text(found["toml"].text)
    read_toml(tmp_path / "serve.toml", "settings file", "none")
    settings = ServeSettings(bundle=tmp_path, settings=tmp_path / "serve.toml")
    assert (settings.host, settings.rate) == ("0.0.0.0", 200)
    [serve] = [line for line in commands(found["sh"]) if line.startswith("goalrank serve")]
    options = {part[2:].replace("-", "_") for part in shlex.split(serve) if part.startswith("--")}
    assert options <= set(ServeSettings.model_fields)
    known = {name.replace("_", "-") for name in ServeSettings.model_fields}
    named = set(re.findall(r"`--([a-z-]+)", DOCUMENT.read_text()))
    assert named - {"days"} <= known


def test_metrics_and_codes_of_the_document_exist():
    text = DOCUMENT.read_text()
    metrics = Metrics()
    StateMetrics(metrics.registry)  # of a server with --state
    served = metrics.text().decode()
    for name in re.findall(r"`(goalrank_\w+)`", text):
        assert f"# TYPE {name} " in served or f"# TYPE {name.removesuffix('_total')} " in served, (
            name
        )
    codes = {each.code for each in vars(errors).values() if hasattr(each, "code")}
    codes |= {"overloaded", "unauthorized", "rate_limited"}
    named = set(re.findall(r"(?:401|404|409|422|429|503) `(\w+)`", text))
    assert named >= {"store_full", "store_unavailable", "overloaded", "duplicate_request"}
    assert named <= codes


def test_the_document_can_be_found():
    assert "docs/operations.md" in (ROOT / "README.md").read_text()
