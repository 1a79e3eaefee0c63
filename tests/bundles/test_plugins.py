"""Bundles of other packages' classes run only where installed and allowed; old bundles load."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from goalrank import load
from goalrank.bundles import Bundle
from goalrank.cli import app
from goalrank.errors import BundleError
from goalrank.rankers import Scorer
from goalrank.requests import Requests
from tests.bundles.kit import make_bundle
from tests.plugins import Installer
from tests.tables import make_table

OLD = Path(__file__).parents[1] / "data" / "bundle-0.1.0"
CODE = """
import torch
from goalrank.rankers import Scorer


class Mine(Scorer):
    def __init__(self, *, gain: float = 1.0):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def scores(self, batch):
        return self.gain * batch.candidate_score


class NoRanker:
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch) -> Iterator[Installer]:
    monkeypatch.delenv("GOALRANK_ALLOW_PLUGINS", raising=False)
    installer = Installer(tmp_path / "packages", monkeypatch)
    yield installer
    installer.forget()


@pytest.fixture
def foreign(install, tmp_path) -> Path:
    """A bundle whose ranker is of the package `mine`, which this process has not imported."""
    install.add("mine 1.2", {"goalrank.rankers": {"mine": "mine:Mine"}}, CODE)
    folder = make_bundle("mine", reward=False, options={"gain": -2.0}).save(tmp_path / "bundle")
    install.forget()
    return folder


def test_a_class_that_is_not_allowed_is_refused_unrun(foreign):
    for words in ("code of other packages", "--allow-plugin mine", "GOALRANK_ALLOW_PLUGINS=mine"):
        with pytest.raises(BundleError, match=words):
            load(foreign)
    with pytest.raises(BundleError, match="runs only where"):
        load(foreign, allow=["min", "mine.sub", "theirs"])
    assert "mine" not in sys.modules


@pytest.mark.parametrize("way", ["argument", "variable", "all"])
def test_a_class_that_is_allowed_loads(foreign, way, monkeypatch):
    allow = ["mine"] if way == "argument" else []
    if way != "argument":
        monkeypatch.setenv("GOALRANK_ALLOW_PLUGINS", "other, mine" if way == "variable" else "*")
    again = load(foreign, allow=allow)
    assert type(again.ranker).__module__ == "mine"
    gain = again.ranker.gain
    assert isinstance(gain, torch.Tensor)
    assert float(gain.detach()) == -2.0
    asked = make_table(8, seed=4)
    scores = [-2.0 * np.array(row) for row in asked.frame["candidate_score"]]
    assert again.rank(asked, 1)["positions"].to_list() == [[int(row.argmax())] for row in scores]


def test_a_plugin_that_is_not_installed_is_named(foreign, install, monkeypatch):
    left = [place for place in sys.path if not place.startswith(str(install.folder))]
    monkeypatch.setattr(sys, "path", left)
    with pytest.raises(
        BundleError, match=r"package 'mine' is not installed.*pip install 'mine==1\.2'"
    ):
        load(foreign, allow=["mine"])


def test_verbs_take_the_option(foreign, tmp_path):
    table = tmp_path / "asked.parquet"
    make_table(8, seed=4).write(table)
    arguments = ["rank", "--bundle", foreign, "--requests", table, "--out", tmp_path / "l.parquet"]
    refused = CliRunner().invoke(app, [str(a) for a in arguments])
    assert refused.exit_code == BundleError.exit_code
    assert "--allow-plugin mine" in refused.stderr
    ranked = CliRunner().invoke(app, [*(str(a) for a in arguments), "--allow-plugin", "mine"])
    assert ranked.exit_code == 0, ranked.output


def test_the_class_counts_and_not_who_has_its_name_now(foreign, install):
    install.add("rival 1.0", {"goalrank.rankers": {"mine": "rival:Mine"}}, CODE)
    assert type(load(foreign, allow=["mine"]).ranker).__module__ == "mine"


def test_a_class_that_is_no_ranker_is_refused(foreign, install):
    from goalrank.bundles.manifest import MANIFEST, _checksum

    manifest = json.loads((foreign / MANIFEST).read_text())
    manifest["class"] = "mine:NoRanker"
    manifest["checksum"] = _checksum(manifest)
    (foreign / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="'mine:NoRanker' is no ranker"):
        load(foreign, allow=["mine"])


def test_a_class_that_nobody_could_find_is_not_saved(tmp_path):
    class Local(Scorer):
        def scores(self, batch):
            return batch.candidate_score

    bundle = make_bundle(reward=False)
    wrong = Bundle(Local(), bundle.config, bundle.encoder)
    with pytest.raises(BundleError, match=r"Local.*top level of a module"):
        wrong.save(tmp_path / "b")
    assert not any(tmp_path.iterdir())


@torch.inference_mode()
def test_a_bundle_of_version_0_1_0_gives_the_same_lists_and_numbers():
    expected = json.loads((OLD / "expected.json").read_text())
    bundle, asked = load(OLD / "bundle"), Requests.read(OLD / "requests.parquet")
    lists = bundle.rank(asked)
    assert lists["positions"].to_list() == expected["positions"]
    np.testing.assert_allclose(lists["log_prob"].to_numpy(), expected["log_prob"], rtol=1e-5)
    batch = bundle.encoder.encode(asked).batch(slice(0, len(asked)))
    assert bundle.reward is not None
    reward = bundle.reward(batch, bundle.ranker.rank(batch, 4).unsqueeze(1)).squeeze(1)
    np.testing.assert_allclose(reward.numpy(), expected["reward"], atol=1e-6)


def test_a_bundle_of_version_0_1_0_can_be_saved_anew(tmp_path):
    bundle, asked = load(OLD / "bundle"), Requests.read(OLD / "requests.parquet")
    again = load(bundle.save(tmp_path / "again"))
    assert again.rank(asked).equals(bundle.rank(asked))
