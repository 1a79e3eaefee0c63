"""fit, load: a model that ranks at once, and a job that can be gone on with."""

from __future__ import annotations

import json

import pytest

from goalrank import fit, load
from goalrank.api import recipe_names, recipe_path
from goalrank.errors import BundleError, ConfigError
from goalrank.training import load_config
from tests.api.kit import TINY
from tests.tables import make_table

SETTINGS = load_config(None, TINY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("job") / "out"
    model = fit(make_table(), make_table(20, seed=1), config=SETTINGS, out=out, progress=False)
    return model, out


def test_a_model_ranks_and_tells_of_its_training(finished):
    model, _ = finished
    assert set(model.rankers) == {"prm", "goalrank"}
    assert set(model.fitted.seconds) == {"prm", "reward-0", "goalrank"}
    assert model.train["dataset"] == "small"
    assert model.train["seeds"] == [0]
    assert model.train["requests"] == 60
    assert model.rank(make_table(5, seed=2)).height == 5


def test_the_bundle_on_disk_ranks_alike(finished, tmp_path):
    model, out = finished
    new = make_table(20, seed=2)
    assert load(out).rank(new).equals(model.rank(new))
    assert load(model.save(tmp_path / "b")).rank(new).equals(model.rank(new))
    assert load(out).reward is not None


def test_a_finished_job_is_not_run_over(finished):
    _, out = finished
    with pytest.raises(BundleError, match="--resume"):
        fit(make_table(), config=SETTINGS, out=out, progress=False)


def test_an_unfinished_job_is_not_run_over(tmp_path):
    kept = tmp_path / "run" / "prm" / "weights.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"hours of training")
    with pytest.raises(BundleError, match=r"unfinished job.*--resume"):
        fit(make_table(), config=SETTINGS, out=tmp_path, progress=False)
    assert kept.read_bytes() == b"hours of training"


def test_resume_keeps_what_is_finished(finished):
    model, out = finished
    again = fit(
        make_table(), make_table(20, seed=1), config=SETTINGS, out=out, progress=False, resume=True
    )
    new = make_table(20, seed=2)
    assert again.rank(new).equals(model.rank(new))
    other = SETTINGS.model_copy(update={"seed": 5})
    with pytest.raises(ConfigError, match="other settings"):
        fit(make_table(), config=other, out=out, progress=False, resume=True)


def test_a_job_recorded_under_old_names_of_settings_is_resumed(finished):
    model, out = finished
    [record] = out.rglob("recipe.json")
    kept = record.read_text()
    assert '"slot_group_share"' in kept
    record.write_text(kept.replace('"slot_group_share"', '"slots"'))
    try:
        again = fit(
            make_table(), make_table(20, seed=1), config=SETTINGS, out=out, progress=False,
            resume=True,
        )  # fmt: skip
    finally:
        record.write_text(kept)
    new = make_table(20, seed=2)
    assert again.rank(new).equals(model.rank(new))


def test_recipe_files_and_names(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        "seed = 3\nlight = []\n[objective]\nname = 'supervised'\n[training]\nsteps = 2\n"
    )
    model = fit(make_table(), config=recipe, progress=False)
    assert model.train["seeds"] == [3]
    assert model.reward is None
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        fit(make_table(), config="defualt", progress=False)


def test_an_unknown_ranker_costs_no_training(tmp_path):
    wrong = SETTINGS.model_copy(update={"light": ("prm", "dn")})
    with pytest.raises(ConfigError, match="did you mean 'dnn'"):
        fit(make_table(), config=wrong, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["linear", "lambdamart", "mmr"])
def test_a_ranker_without_weights_is_not_taught_by_a_reward(tmp_path, name):
    told = f"--set ranker.name={name} --set objective.name=supervised"
    with pytest.raises(ConfigError, match=told):
        fit(make_table(), config=SETTINGS, overrides={"ranker.name": name}, progress=False)


def test_several_faults_are_told_at_once(tmp_path):
    recipe = tmp_path / "wrong.toml"
    recipe.write_text("colour = 1\n[training]\nlr = -1\n[reward]\nmembers = 'two'\n")
    with pytest.raises(ConfigError) as caught:
        fit(make_table(), config=recipe, progress=False)
    for name in ("colour", "training.lr", "reward.members"):
        assert name in str(caught.value)


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_can_be_used(name):
    config = load_config(recipe_path(name))
    assert json.loads(config.model_dump_json())


LINEAR = {"ranker.name": "linear", "objective.name": "supervised", "light": ["linear"]}


def test_what_the_data_decided_is_told_to_the_caller(capsys):
    told: list[str] = []
    model = fit(make_table(), config=SETTINGS, overrides=LINEAR, progress=False, say=told.append)
    assert told == model.fitted.notes
    assert any(sentence.startswith("tree scores") for sentence in told)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("progress", [True, False])
def test_what_the_data_decided_is_printed_beside_progress_bars_only(capsys, progress):
    model = fit(make_table(), config=SETTINGS, overrides=LINEAR, progress=progress)
    printed = capsys.readouterr().err.splitlines()
    assert model.fitted.notes
    assert set(model.fitted.notes).issubset(printed) is progress
