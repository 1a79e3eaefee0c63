"""A mini grid runs, goes on where it stopped, and is counted and fitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from goalrank.errors import ConfigError, DataError
from goalrank.nn import Linear
from goalrank.rankers import RankerConfig, build_ranker, ranker_names
from goalrank.requests import Encoder
from goalrank.studies.scaling import (
    build_scaling,
    fit_scaling,
    load_scaling,
    plan_scaling,
    run_scaling,
)
from goalrank.studies.scaling.cells import read_cells
from goalrank.studies.scaling.cost import cost_of, count_flops, matched_width
from goalrank.studies.scaling.rounds import log_in_rounds
from goalrank.studies.scaling.suite import group_of, steps_for, steps_overrides
from goalrank.training import build_config
from goalrank.worlds import World, WorldConfig

_ROOT = Path(__file__).parents[3] / "configs"
_TINY = _ROOT / "worlds" / "tiny.toml"
_LOOP = {"steps": 2, "batch_size": 16, "warmup": 0, "validate_every": 2}
MINI: dict[str, Any] = {
    "name": "mini",
    "world": _TINY,
    "rankers": ["goalrank", {"name": "mg_e_copies", "options": {"k": 2}}],
    "sizes": [
        {"name": "8", "ranker": {"width": 8, "layers": 1, "heads": 2}},
        {"name": "16", "ranker": {"width": 16, "layers": 1, "heads": 2}},
    ],
    "data": [20, 40],
    "groups": [4, 6],
    "validation": 10,
    "test": 12,
    "split": 4,
    "recipe": {
        "light": [],
        "training": _LOOP,
        "reward": {"width": 8, "heads": 2, "loop": _LOOP},
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)
    suite = build_scaling(MINI)
    folder = tmp_path_factory.mktemp("mini")
    return suite, folder, run_scaling(suite, folder, accelerator="cpu")


def test_the_grid_is_full():
    cells = plan_scaling(build_scaling(MINI))
    assert len(cells) == 2 * 2 * (2 + 1)  # sizes, data, two group sizes or one cell
    assert len({cell.key for cell in cells}) == len(cells)
    assert {c.group for c in cells if c.row.name == "mg_e_copies"} == {0}


def test_cells_are_measured(finished):
    _, folder, done = finished
    cells = read_cells(folder)
    assert (done.ran, done.before, len(cells)) == (12, 0, 12)
    failed = [cell for cell in cells if cell["status"] != "ok"]
    # Two copies cannot be as small as the smallest generator: written down, not drawn.
    assert all("copies" in cell["reason"] for cell in failed)
    for cell in (cell for cell in cells if cell["status"] == "ok"):
        assert cell["loss"] == pytest.approx(cell["best"] - cell["true_reward"])
        assert cell["flops_training"] > cell["flops_request"] > 0
        # A learned reward teaches the one and picks for the other.
        assert {"policy_error", "reward_error", "correlation_random"} <= set(cell)
    assert {cell["ranker"] for cell in cells if cell["status"] == "ok"} == {
        "goalrank",
        "mg_e_copies",
    }
    assert not list((folder / "work").glob("*"))


def test_rows_of_other_k_stand_on_one_generator(tmp_path):
    torch.set_num_threads(1)
    rows = [
        {"name": "best_of", "label": f"best_of_{k}", "options": {"base": "dnn", "lists": k}}
        for k in (1, 4)
    ]
    some = {
        "sizes": MINI["sizes"][:1],
        "data": [20],
        "rankers": [*rows, "dnn", "mg_e_3", "mg_e_20"],
    }
    run_scaling(build_scaling({**MINI, **some}), tmp_path, accelerator="cpu")
    cells = {cell["ranker"]: cell for cell in read_cells(tmp_path)}
    assert {name: cell["choices"] for name, cell in cells.items()} == {
        "best_of_1": 1, "best_of_4": 4, "dnn": 1, "mg_e_3": 3, "mg_e_20": 20,
    }  # fmt: skip
    assert {cell["method"] for cell in cells.values()} == {"best_of", "dnn", "mg_e"}
    # The best of one list is the generator's own, and there is nothing to choose.
    assert cells["best_of_1"]["true_reward"] == cells["dnn"]["true_reward"]
    # One list a request has no order, so there is nothing to correlate.
    assert "correlation_proposed" not in cells["best_of_1"]
    assert -1 <= cells["best_of_4"]["correlation_proposed"] <= 1
    kept = sorted(p.name.split(".")[0] for p in (tmp_path / "shared" / "stages").glob("*/"))
    assert kept == ["dnn", "generator", "prm", "reward"]


def test_a_stopped_run_goes_on(finished):
    suite, folder, _ = finished
    gone = next((folder / "cells").glob("goalrank*.json"))
    before = json.loads(gone.read_text())
    gone.unlink()
    done = run_scaling(suite, folder, accelerator="cpu")
    assert (done.ran, done.before) == (1, 11)
    again = json.loads(gone.read_text())
    assert again["loss"] == pytest.approx(before["loss"], abs=1e-6)


@pytest.mark.parametrize("retry", [False, True])
def test_a_damaged_cell_is_run_again(finished, retry):
    suite, folder, _ = finished
    file = next((folder / "cells").glob("goalrank*.json"))
    before = json.loads(file.read_text())
    file.write_text('{"status": "o')
    done = run_scaling(suite, folder, retry=retry, accelerator="cpu")
    assert done.ran == 1 + retry * len(done.reasons)
    assert json.loads(file.read_text())["loss"] == pytest.approx(before["loss"], abs=1e-6)


def test_what_no_cell_can_do_without_is_no_result(tmp_path):
    """A mistyped accelerator or path was written down as the failure of every cell."""
    world, real = build_scaling(MINI), MINI | {"world": None, "requests": tmp_path / "no"}
    with pytest.raises(ConfigError, match=r"'tpu9' is unknown; .*--accelerator"):
        run_scaling(world, tmp_path / "out", accelerator="tpu9")
    with pytest.raises(DataError, match=r"train\.parquet' does not exist"):
        run_scaling(build_scaling(real), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"none\.toml"):
        run_scaling(build_scaling(MINI | {"world": tmp_path / "none.toml"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"could not write.*remedy"):
        run_scaling(world, tmp_path / "file", accelerator="cpu")


def test_a_loss_that_is_no_number_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "goalrank.studies.scaling.run._on_world",
        lambda *_: {"true_reward": 1.0, "regret": 1.0, "best": 2.0, "loss": float("nan")},
    )
    one = {"sizes": MINI["sizes"][:1], "data": [20], "groups": [4], "rankers": ["dnn"]}
    done = run_scaling(build_scaling(MINI | one), tmp_path, accelerator="cpu")
    assert done.reasons == ("loss is nan, but must be a finite number",)
    assert read_cells(tmp_path)[0]["status"] == "failed"


def test_a_grid_too_small_for_a_law_says_so(finished, tmp_path):
    _, folder, _ = finished
    result = fit_scaling(folder, tmp_path, bootstrap=20)
    assert not any(fit["holds"] for fit in result["fits"])
    assert "at least 3 sizes" in result["fits"][0]["reason"]
    assert not list(tmp_path.glob("*-law.svg"))
    assert (tmp_path / "world-goalrank-groups.svg").exists()
    assert json.loads((tmp_path / "fit.json").read_text())["cells"] == result["cells"]


def test_a_planted_law_in_the_ledger_is_fitted_and_drawn(tmp_path):
    (tmp_path / "cells").mkdir()
    sizes, amounts = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000, 100_000)
    for p in sizes:
        for d in amounts:
            loss = 0.2 + 10 * p**-0.5 + 5 * d**-0.4
            cell = {"suite": "planted", "source": "world", "ranker": "goalrank", "size": f"{p}",
                    "data": d, "group": 8, "seed": 0, "status": "ok", "reason": None,
                    "parameters": p, "loss": loss, "flops_training": 6.0 * p * d,
                    "true_reward": 1 - loss, "regret": loss, "best": 1.0}  # fmt: skip
            (tmp_path / "cells" / f"{p}-{d}.json").write_text(json.dumps(cell))
    fit = fit_scaling(tmp_path, bootstrap=20)["fits"][0]
    assert fit["holds"]
    assert fit["law"]["estimates"]["alpha"]["value"] == pytest.approx(0.5, rel=1e-3)
    assert fit["frontier"]["exponents"][0] == pytest.approx(0.4 / 0.9, rel=1e-3)
    assert fit["falls"] == {
        "parameters": {"lower": 9, "pairs": 9},
        "data": {"lower": 8, "pairs": 8},
    }
    assert (tmp_path / "world-goalrank-8-compute.svg").exists()
    assert (tmp_path / "world-goalrank-8-law.svg").exists()


def test_real_requests_and_true_teacher(tmp_path):
    world = World(WorldConfig.load(_TINY))
    for i, part in enumerate(("train", "validation", "test")):
        world.sample(30, seed=i, first=100 * i).write(tmp_path / f"{part}.parquet")
    small = {"data": [20], "groups": [4], "rankers": ["goalrank"], "sizes": MINI["sizes"][:1]}
    real = MINI | small | {"world": None, "requests": tmp_path, "slots": 3, "data": [20, 50]}
    done = run_scaling(build_scaling(real), tmp_path / "real", accelerator="cpu")
    ok, short = sorted(read_cells(tmp_path / "real"), key=lambda cell: cell["data"])
    assert done.failed == 1
    assert ok["loss"] == pytest.approx(1 - ok["ndcg@3"])
    assert "30 training requests, 50 are wanted" in short["reason"]
    taught = MINI | small | {"teacher": "truth", "epochs": 2.0}
    assert run_scaling(build_scaling(taught), tmp_path / "true", accelerator="cpu").failed == 0
    (cell,) = read_cells(tmp_path / "true")
    assert cell["steps"] == 2
    assert "reward_error" not in cell


def test_a_log_in_rounds(tmp_path):
    small = {"data": [41], "groups": [4], "rankers": ["goalrank"], "sizes": MINI["sizes"][:1]}
    plain, _, suite = (build_scaling(MINI | small | {"rounds": n}) for n in (1, 2, 3))
    assert len({plan_scaling(each)[0].key for each in (plain, _, suite)}) == 3
    world = World(WorldConfig.load(_TINY))
    held = world.sample(10, seed=9)
    log = log_in_rounds(suite, world, 41, 5, held, accelerator="cpu")
    assert log.validate() == []
    assert log.frame["policy"].to_list() == ["logging"] * 14 + ["goalrank"] * 27
    assert log.frame["request_id"].n_unique() == 41
    assert log.frame["time"].is_sorted()
    assert log.frame[:14].equals(world.sample(14, seed=5).frame, null_equal=True)
    assert log_in_rounds(plain, world, 41, 5, held).frame.equals(world.sample(41, seed=5).frame)
    assert run_scaling(suite, tmp_path, accelerator="cpu").failed == 0
    assert read_cells(tmp_path)[0]["data"] == 41


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rounds": 3, "teacher": "truth"}, "learned teacher"),
        ({"rounds": 30}, "at least as many requests"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_rounds_that_cannot_be_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        build_scaling(MINI | change)


def test_operations_are_those_of_the_formula():
    layer = Linear(24, 40)
    x = torch.randn(32, 24)
    assert count_flops(lambda: layer(x)) == 2 * 32 * 24 * 40
    table = World(WorldConfig.load(_TINY)).sample(20)
    encoder = Encoder.fit(table)
    ranker = build_ranker(encoder.spec, RankerConfig(width=16, layers=1, heads=2, slots=3))
    batch = encoder.encode(table).batch(slice(None))
    once = cost_of(ranker, batch, 3, group=4, steps=10, batch_size=8)
    twice = cost_of(ranker, batch, 3, group=4, steps=20, batch_size=8)
    assert twice.flops_training == 2 * once.flops_training
    assert once.parameters < once.parameters_all
    # Each candidate meets the encoder's weights at least once.
    assert once.flops_request > once.parameters


@pytest.mark.parametrize("name", [n for n in ranker_names() if n not in ("lambdamart", "xgboost")])
def test_every_ranker_is_counted(name):
    table = World(WorldConfig.load(_TINY)).sample(20)
    encoder = Encoder.fit(table)
    config = RankerConfig(name=name, width=16, layers=1, heads=2, slots=3)
    ranker = build_ranker(encoder.spec, config)
    batch = encoder.encode(table).batch(slice(None))
    cost = cost_of(ranker, batch, 3, group=0, steps=10, batch_size=8)
    assert cost.flops_request > 0 or not ranker.trainable
    assert cost.flops_training > 0 or not ranker.trainable


def test_copies_match_the_capacity():
    spec = Encoder.fit(World(WorldConfig.load(_TINY)).sample(20)).spec
    config = RankerConfig(name="goalrank", width=64, layers=2, heads=2)
    narrow, wide = (matched_width(spec, config, "generator", 1, k) for k in (8, 2))
    assert 8 <= narrow < wide < 64
    with pytest.raises(ConfigError, match="fewer copies"):
        matched_width(spec, config, "generator", 1, 1000)


@pytest.mark.parametrize("size", [2, 7, 20, 100])
def test_groups_have_their_size(size):
    group = group_of(size, build_config({"light": []}))
    counts = [group.own, group.light, group.heuristic, group.perturbed, group.logged, group.random]
    assert sum(counts) == size
    assert group.light == 0


def test_epochs_set_steps():
    assert steps_for(2.0, 320, 32)["steps"] == 20
    loops = {"light_loop": 8, "reward": 16, "training": 32}
    recipe: dict[str, Any] = {
        name: {"batch_size": size} for name, size in loops.items() if name != "reward"
    }
    recipe["reward"] = {"loop": {"batch_size": loops["reward"]}}
    over = steps_overrides(build_scaling(MINI | {"recipe": recipe, "epochs": 2.0}), 320)
    over["reward"] = over["reward"]["loop"]
    assert {name: over[name]["steps"] for name in loops} == {
        "light_loop": 80, "reward": 40, "training": 20,
    }  # fmt: skip
    assert steps_overrides(build_scaling(MINI | {"recipe": recipe}), 320) == {}


def test_shipped_suites_can_be_read():
    for path in (_ROOT / "scaling").glob("*.toml"):
        suite = load_scaling(path)
        assert len(plan_scaling(suite)) > 0
    cpu = load_scaling(_ROOT / "scaling" / "cpu.toml")
    assert len(cpu.sizes) >= 5
    assert len(cpu.data) >= 3
    assert len(cpu.seeds) >= 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"world": None}, "nothing to run on"),
        ({"data": [0]}, "at least 1"),
        ({"seeds": [1, 1]}, "repeats"),
        ({"seeds": [-1]}, "seeds.0 = -1"),
        ({"colour": 1}, "colour"),
        ({"rankers": ["goalrnk"]}, "did you mean"),
        ({"requests": "x", "teacher": "truth"}, "worlds only"),
        ({"rankers": [{"name": "dnn", "set": {"encoder": {"history": 0}}}]}, "share one"),
    ],
)
def test_bad_suites_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        build_scaling(MINI | change)


def test_a_rule_of_several_settings_does_not_print_the_whole_suite():
    with pytest.raises(ConfigError) as refused:
        build_scaling(MINI | {"data": [0]})
    assert str(refused.value).splitlines()[1] == "  data must be at least 1 and groups at least 2"


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no finished cell"):
        fit_scaling(tmp_path)
