from __future__ import annotations

import json
import multiprocessing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from goalrank.errors import ConfigError, DataError, InfeasibleError
from goalrank.studies.theory import FitOptions, GroupTraining, LabConfig, run
from goalrank.studies.theory.figures import error_chart
from goalrank.studies.theory.fits.claims import _verdict
from goalrank.studies.theory.fits.fit import minimise
from goalrank.studies.theory.settings import tiny_world

SMALL = LabConfig(
    requests=2, widths=(1, 3), alphas=(1,), ks=(2,), extra=(0, 2), noise=(1.0,), noise_alpha=1,
    mixture_target_extra=(0, 2), fit=FitOptions(starts=1, iterations=40, chunk=20), draws=4,
    largest_world=tiny_world(candidates=5, slots=4), largest_requests=2,
    largest_runs={"own_8": GroupTraining(own=4, light=4, steps=10)},
    runs={"own_120": GroupTraining(own=120, light=0, steps=20),
          "own_8": GroupTraining(own=8, light=8, steps=20, amplitude=0.1)},
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    out, told = tmp_path_factory.mktemp("lab") / "new" / "folder", list[str]()
    return out, run(out, seed=3, progress=told.append, config=SMALL), told


def test_the_file_holds_what_is_returned(made: tuple[Path, dict[str, Any], list[str]]) -> None:
    out, results, told = made
    assert json.loads((out / "theory.json").read_text("utf-8")) == results
    assert json.loads((out / "theory_run.json").read_text("utf-8"))["seconds"] > 0
    assert len(told) == results["counts"]["fits"] + 2 * 2 + 2 + 1 + 1
    assert not list(out.glob("*.tmp"))


def test_works_on_one_thread_and_gives_the_others_back(tmp_path: Path) -> None:
    # Two threads sum in another order, which the fits' many steps make visible in the numbers.
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(tmp_path, config=SMALL, progress=lambda _: seen.append(torch.get_num_threads()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen[:-1]) == {1}  # the last word is about the figures


def test_jobs_change_nothing_but_the_time(
    made: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    assert run(tmp_path, seed=3, config=SMALL, jobs=2) == made[1]
    cost = json.loads((tmp_path / "theory_run.json").read_text("utf-8"))
    assert cost["jobs"] == 2
    assert cost["cpu_seconds"] > 0.0
    assert multiprocessing.active_children() == []


def test_every_figure_is_written_twice(made: tuple[Path, dict[str, Any], list[str]]) -> None:
    names = {path.stem for path in made[0].glob("*.svg")}
    assert names == {path.stem for path in made[0].glob("*.png")}
    assert len(names) == 7


def test_tables_are_consistent(made: tuple[Path, dict[str, Any], list[str]]) -> None:
    results = made[1]
    errors = [fit["E"] for fit in results["families"]["single"].values()]
    assert errors == sorted(errors, reverse=True)
    for row in results["equal_budget"]:
        assert row["single_parameters"] <= row["parameters"]
    for row in results["theorem"]:
        assert row["E_single"] == results["families"]["single"][f"w{row['width']}"]["E"]
    assert results["counts"]["bound_violations"] == 0
    assert results["counts"]["theorem_rows"] == 2
    for name, settings in SMALL.runs.items():
        assert results["bound"][name]["settings"] == asdict(settings)
    checks = results["checks"]
    assert checks["gibbs_residual"] < 1e-12
    assert checks["sum_to_one"] < 1e-12
    assert 0.9 < checks["lemma_ratio"] <= 1.0 + 1e-12
    assert checks["sampled_best_of"]["largest_deviation"] < 5.0


def test_the_same_seed_gives_the_same_file(
    made: tuple[Path, dict[str, Any], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("goalrank.studies.theory.laboratory.draw_all", lambda results, out: [])
    run(tmp_path, seed=3, config=SMALL)
    assert (tmp_path / "theory.json").read_bytes() == (made[0] / "theory.json").read_bytes()


def test_more_starts_add_to_those_of_fewer(
    made: tuple[Path, dict[str, Any], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("goalrank.studies.theory.laboratory.draw_all", lambda results, out: [])
    more = run(tmp_path, seed=3, config=replace(SMALL, fit=replace(SMALL.fit, starts=3)))
    few = made[1]
    assert (few["starts"], more["starts"]) == (1, 3)
    for family, fits in few["families"].items():
        for name, fit in fits.items():
            starts = {start["name"]: start for start in more["families"][family][name]["starts"]}
            assert {"random 0", "random 1", "random 2"} <= set(starts)
            assert starts["random 0"] == fit["starts"][0]
            assert len({start["error"] for start in starts.values()}) > 1


def test_fits_that_did_not_converge_are_in_no_line() -> None:
    points = [(1.0, 0.5, True), (2.0, 0.4, True), (4.0, 0.3, False), (8.0, 0.2, True)]
    axes = error_chart({"one": points, "never": [(1.0, 0.9, False)]}, "width").axes[0]
    lines = [list(zip(*line.get_data())) for line in axes.get_lines()]
    assert lines == [[(1.0, 0.5), (2.0, 0.4)], [(8.0, 0.2)]]
    hollow = [tuple(xy) for marks in axes.collections for xy in marks.get_offsets()]
    assert hollow == [(4.0, 0.3), (1.0, 0.9)]


def test_verdicts_respect_that_a_fit_is_an_upper_bound() -> None:
    assert _verdict(0.1, False, 0.2, True) == "holds"
    assert _verdict(0.1, True, 0.2, False) == "undecided"
    assert _verdict(0.2, True, 0.1, False) == "not observed"
    assert _verdict(0.2, False, 0.1, True) == "undecided"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jobs=0"):
        run(tmp_path, config=SMALL, jobs=0)
    for seed in (-1, 2**63):
        with pytest.raises(ConfigError, match=rf"seed={seed} must lie.*--seed"):
            run(tmp_path, seed=seed, config=SMALL)
    with pytest.raises(ConfigError, match="most_width=1"):
        run(tmp_path, config=LabConfig(most_width=1))


def test_a_folder_that_cannot_be_is_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[str] = []
    for out in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(DataError, match=r"could not write.*remedy"):
            run(out, config=SMALL, progress=told.append)
    assert told == []


def test_figures_that_fail_leave_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("goalrank.studies.theory.laboratory.draw_all", fail)
    with pytest.raises(OSError, match="no space"):
        run(tmp_path, seed=3, config=SMALL)
    assert json.loads((tmp_path / "theory.json").read_text("utf-8"))["seed"] == 3


def test_a_start_that_overflows_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(policy: Any, population: Any, options: Any, name: str) -> Any:
        if name == "random 0":
            with torch.no_grad():
                next(policy.parameters()).fill_(torch.nan)
        return minimise(policy, population, options, name)

    monkeypatch.setattr("goalrank.studies.theory.fits.fit.minimise", spoiled)
    monkeypatch.setattr("goalrank.studies.theory.laboratory.draw_all", lambda results, out: [])
    results = run(tmp_path, config=replace(SMALL, fit=replace(SMALL.fit, starts=2)))
    assert json.loads((tmp_path / "theory.json").read_text("utf-8")) == results
    for fit in results["families"]["best_of"].values():
        spoilt, good = fit["starts"]
        assert (spoilt["error"], spoilt["gradient"], spoilt["converged"]) == (None, None, False)
        assert fit["E"] == good["error"]
        assert fit["spread_of_starts"] == 0.0
    with pytest.raises(InfeasibleError, match=r"1 start of SingleGenerator overflowed.*--starts"):
        run(tmp_path, config=SMALL)
