"""Assignment: stable, at the stated shares, exclusive within a layer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from goalrank.errors import ConfigError
from goalrank.experiments import Experiment, Experiments, Variant

AB = (Variant(name="a"), Variant(name="b", weight=3.0))


def arm(experiment: Experiment, user: int | str) -> str:
    """Name of the arm of a user who takes part."""
    variant = experiment.assign(user)
    assert variant is not None
    return variant.name


def test_shares_follow_the_weights():
    experiment = Experiment(name="x", salt="s", variants=AB)
    arms = [arm(experiment, user) for user in range(20_000)]
    assert abs(arms.count("b") / 20_000 - 0.75) < 4 * (0.75 * 0.25 / 20_000) ** 0.5


def test_another_process_assigns_the_same():
    code = (
        "from goalrank.experiments import Experiment, Variant;"
        "e = Experiment(name='x', salt='s', variants=(Variant(name='a'), Variant(name='b', weight=3.0)));"
        "print(''.join(e.assign(u).name for u in range(200)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    here = Experiment(name="x", salt="s", variants=AB)
    assert out.stdout.strip() == "".join(arm(here, u) for u in range(200))


def test_ramp_up_only_adds_and_nobody_changes_arms():
    small = Experiment(name="x", salt="s", variants=AB, share=0.2)
    large = small.model_copy(update={"share": 0.6})
    before = {u: small.assign(u) for u in range(5000)}
    inside = [u for u, arm in before.items() if arm is not None]
    assert abs(len(inside) / 5000 - 0.2) < 0.03
    assert all(large.assign(u) == before[u] for u in inside)


def test_layers_exclude_and_salts_are_independent():
    one = Experiment(name="one", salt="s", variants=AB, range=(0.0, 0.5))
    two = Experiment(name="two", salt="s", variants=AB, range=(0.5, 1.0))
    Experiments(experiment=(one, two))
    assert all((one.assign(u) is None) != (two.assign(u) is None) for u in range(2000))
    fair = (Variant(name="a"), Variant(name="b"))
    first = Experiment(name="f", salt="1", variants=fair)
    other = Experiment(name="g", salt="2", variants=fair, layer="other")
    same = sum(arm(first, u) == arm(other, u) for u in range(10_000))
    assert abs(same / 10_000 - 0.5) < 0.02


def test_a_string_and_a_number_are_different_units():
    experiment = Experiment(name="x", salt="s", variants=(*AB[:1], Variant(name="c")))
    arms = [(arm(experiment, u), arm(experiment, str(u))) for u in range(200)]
    assert any(number != text for number, text in arms)


TOML = """
[[experiment]]
name = "fresh"
salt = "2026-11"
share = 0.5
variants = [{ name = "control" }, { name = "new", bundle = "runs/new" }]
metrics = [{ name = "clicks", kind = "click" }]
"""


def test_a_file_of_experiments(tmp_path):
    path = tmp_path / "e.toml"
    path.write_text(TOML)
    found = Experiments.read(path)
    assert found.bundles == ("runs/new",)
    labels = {found.assign(user, "r") for user in range(200)}
    assert labels == {(None, None), ("fresh:control", None), ("fresh:new", "runs/new")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("share = 0.5", "share = 1.5"), "share"),
        (("share", "shard"), "shard"),
        (('name = "new"', 'name = "control"'), "share a name"),
        (("[[experiment]]", TOML.replace('"fresh"', '"again"') + "[[experiment]]"), "overlap"),
        (("salt =", "salt"), "the file"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, change, message):
    path = tmp_path / "e.toml"
    path.write_text(TOML.replace(*change))
    with pytest.raises(ConfigError, match=message):
        Experiments.read(path)
