"""Served versions that lose a guardrail are named: the champion against a hold-out, a canary against it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tea_tasting")

from goalrank.api import check_online
from goalrank.errors import ConfigError
from goalrank.experiments import Experiments
from goalrank.models import ModelRegistry
from goalrank.requests import TableInfo
from goalrank.serving import Event as Feedback
from goalrank.serving import Exposure, Store
from tests.bundles.kit import make_bundle

START = datetime(2026, 11, 1, tzinfo=UTC)
BUNDLE = make_bundle("linear", reward=False)


@pytest.fixture
def registry(tmp_path, monkeypatch) -> ModelRegistry:
    """Three versions: the second is champion, the third a canary."""
    monkeypatch.chdir(tmp_path)
    made = ModelRegistry("models")
    for _ in range(3):
        made.add(BUNDLE)
    made.promote(1)
    made.promote(2)
    made.promote(3, pointer="canary")
    return made


def experiments(other: str, guardrail: str = "guardrail = 0.1") -> Path:
    path = Path("experiments.toml")
    path.write_text(f"""
[[experiment]]
name = "watch"
salt = "1"
variants = [{{ name = "all", weight = 1.0 }}, {{ name = "few", weight = 1.0, bundle = "{other}" }}]
metrics = [{{ name = "clicks", kind = "click", {guardrail} }}]
""")
    return path


def served(rates: dict[str, float], users: int = 600, start: datetime = START) -> str:
    """A store in which each arm's lists were clicked at its rate."""
    rng = np.random.default_rng(0)
    told = Experiments.read("experiments.toml")
    url = "sqlite:///store.db"
    exposures, events = [], []
    for user in range(users):
        name = f"{start:%d}r{user}"
        label, _ = told.assign(user, name)
        assert label is not None
        time = start + timedelta(minutes=user)
        exposures.append(Exposure(name, user, time, [1, 2, 3, 4], [0, 1, 2], experiment=label))
        rate = rates[label.partition(":")[2]]
        events += [Feedback(name, item, "click", 1.0) for item in (1, 2, 3) if rng.random() < rate]
    with Store(url) as store:
        store.describe(TableInfo(feedback_kinds=("click",), target="click"))
        store.record(exposures)
        store.feedback(events)
    return url


def test_a_champion_that_lost_to_its_predecessor_is_named(registry):
    path = experiments("models/previous")
    (found,) = check_online("models", served({"all": 0.15, "few": 0.4}), path, start=START)
    assert (found.pointer, found.version, found.against) == ("champion", 2, 1)
    assert len(found.breaches) == 1
    assert "version 2 (champion) TURNED BAD against version 1 in experiment 'watch'" in str(found)
    assert found.to_dict()["breaches"][0]["metric"] == "clicks"


def test_a_champion_that_holds(registry):
    path = experiments("models/previous")
    (found,) = check_online("models", served({"all": 0.4, "few": 0.4}), path, start=START)
    assert (found.breaches, found.undecided) == ((), None)
    assert "holds its guardrails" in str(found)


def test_a_bad_canary_is_named_and_the_champion_is_not(registry):
    path = experiments(str(registry.pointer("canary").absolute()))
    (found,) = check_online("models", served({"all": 0.4, "few": 0.15}), path, start=START)
    assert (found.pointer, found.version, found.against) == ("canary", 3, 2)
    assert found.breaches


def test_only_exposures_since_the_promotion_count(registry):
    path = experiments("models/previous")
    url = served({"all": 0.15, "few": 0.4})  # before today's promotions
    (found,) = check_online("models", url, path)
    assert found.since is not None
    assert found.undecided is not None
    assert "needs at least two units" not in found.undecided
    assert "has too few units (all 0, few 0)" in found.undecided


def test_a_hold_out_that_is_the_champion_says_nothing(registry):
    registry.rollback()
    path = experiments("models/previous")
    (found,) = check_online("models", served({"all": 0.4, "few": 0.4}), path, start=START)
    assert found.undecided == "'previous' is the same version"


def test_broken_assignment_is_not_trusted(registry):
    path = experiments("models/previous")
    url = served({"all": 0.15, "few": 0.4})
    text = path.read_text().replace('"all", weight = 1.0', '"all", weight = 9.0')
    path.write_text(text)
    (found,) = check_online("models", url, path, start=START)
    assert found.breaches == ()
    assert found.undecided is not None
    assert "do not fit their weights" in found.undecided
    assert not set("{}'") & set(found.undecided.removeprefix("the variants' sizes"))
    assert re.search(r"sizes \(all [\d,]+, few [\d,]+ units\)", found.undecided)


@pytest.mark.parametrize(
    ("other", "guardrail"), [("models/previous", "harm = false"), ("runs/other", "guardrail = 0.1")]
)
def test_nothing_to_check_is_refused(registry, other, guardrail):
    path = experiments(other, guardrail)
    with pytest.raises(
        ConfigError, match=r"no experiment of .*models/previous.*option: experiments"
    ):
        check_online("models", served({"all": 0.4, "few": 0.4}), path, start=START)


def test_without_a_champion_there_is_nothing_to_check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no champion to check"):
        check_online("models", "sqlite:///s.db", experiments("models/previous"))
