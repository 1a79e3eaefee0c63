"""The script for a GPU runs from end to end on a CPU, and its arithmetic and clocks are right."""

from __future__ import annotations

import gc
import importlib
import json
import math
import re
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.utilities.throughput import get_available_flops
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "perf"))
    return importlib.import_module


@pytest.fixture
def gpu(load) -> Any:
    return load("gpu")


@pytest.fixture
def parts(load) -> Any:
    return load("gpu_parts")


@pytest.fixture
def speed(load) -> Any:
    return load("device_speed")


def test_the_smoke_run_measures_every_part_and_goes_on_where_it_stopped(
    gpu, monkeypatch, tmp_path, capsys
):
    out = tmp_path / "smoke.json"
    assert gpu.main(["--cpu-smoke", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert gpu.MEANINGLESS in printed
    content = json.loads(out.read_text())
    assert content["meaningless"] is True
    done = content["parts"]
    assert {name: each["status"] for name, each in done.items()} == {
        part.name: "done" for part in gpu.PARTS
    }
    found, flops = done["training"]["found"], done["operations"]["found"]["flops"]
    assert len(found["step_ms"]) == len(flops) == gpu.SMOKE.steps
    assert found["precision"] == "bf16-mixed"
    tokens = found["batch"] * 50
    assert sum(flops) / len(flops) > 6 * tokens * 8 * 8  # one 8 × 8 matrix
    for precision in ("float32", "bf16"):
        assert done[f"ranking {precision}"]["found"]["batches"] == gpu.SMOKE.ranks
    assert done["product"]["found"]["tflops"] > 0
    assert all(done[name]["found"]["regret"] >= 0 for name in gpu.SMOKE.points)
    assert "no peak is known for 'cpu'" in printed
    # Only what is missing is measured again.
    content["parts"]["1e7"] = {"status": "skipped", "reason": "…"}
    out.write_text(json.dumps(content))
    ran: list[str] = []

    def attempt(part: Any, *_: Any) -> dict[str, Any]:
        ran.append(part.name)
        return {"status": "failed", "reason": ""}

    monkeypatch.setattr(gpu, "attempt", attempt)
    assert gpu.main(["--cpu-smoke", "--out", str(out)]) == 1
    assert ran == ["1e7"]
    ran.clear()
    assert gpu.main(["--cpu-smoke", "--out", str(out), "--fresh"]) == 1
    assert ran == [part.name for part in gpu.PARTS]


def test_a_machine_without_a_gpu_is_refused_and_nothing_is_written(
    gpu, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "x.json")]) == 2
    assert "--cpu-smoke" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_smoke_run_is_not_recorded(gpu):
    recorded = ROOT / "results" / "gpu.json"
    assert gpu.checked_out(None, smoke=True) is None
    assert gpu.checked_out(None, smoke=False) == recorded
    with pytest.raises(gpu.ConfigError, match="--out"):
        gpu.checked_out(recorded, smoke=True)


def test_a_record_that_cannot_be_written_is_refused_before_anything_is_measured(
    gpu, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(gpu, "attempt", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    for out, said in ((tmp_path / "file" / "x.json", "could not write"), (tmp_path, "a folder")):
        assert gpu.main(["--cpu-smoke", "--fresh", "--out", str(out)]) == 2
        assert said in capsys.readouterr().err


def test_a_record_is_of_a_gpu():
    recorded = ROOT / "results" / "gpu.json"
    assert not recorded.exists() or not json.loads(recorded.read_text())["meaningless"]


@pytest.mark.parametrize("text", ["{}", "[]", "no json"])
def test_what_is_no_record_is_refused(gpu, tmp_path, text):
    out = tmp_path / "x.json"
    out.write_text(text)
    with pytest.raises(gpu.ConfigError, match="no record"):
        gpu.resumed(out, {"device": "a"}, fresh=False)
    assert gpu.resumed(out, {"device": "a"}, fresh=True) == {}


def test_another_device_is_not_mixed_in(gpu, tmp_path):
    out = tmp_path / "x.json"
    parts = {"ranking": {"status": "done"}, "training": {"status": "failed"}}
    out.write_text(json.dumps({"identity": {"device": "a", "n": [1]}, "parts": parts}))
    with pytest.raises(gpu.ConfigError, match="another device"):
        gpu.resumed(out, {"device": "b", "n": (1,)}, fresh=False)
    assert set(gpu.resumed(out, {"device": "a", "n": (1,)}, fresh=False)) == {"ranking"}


@pytest.mark.parametrize("batch", ["0", "1311"])
def test_a_batch_that_would_be_counted_twice_is_refused(gpu, batch, capsys):
    assert gpu.main(["--cpu-smoke", "--batch", batch]) == 2
    assert "1310" in capsys.readouterr().err


# Utilisation and peaks


def test_utilisation_by_hand(speed):
    # 6 · 10⁸ parameters · 25,600 candidates = 15.36 TFLOP; in 50 ms 307.2 TFLOP/s.
    assert speed.utilisation(6 * 1e8 * 25_600, 0.05, 989.0) == pytest.approx(307.2 / 989)
    assert speed.utilisation(312e12, 1.0, 312.0) == 1.0


@pytest.mark.parametrize("given", [(0, 1, 1), (1, 0, 1), (1, -1, 1), (1, math.nan, 1), (1, 1, 0)])
def test_utilisation_of_nothing_is_refused(speed, given):
    with pytest.raises(ValueError, match="above 0"):
        speed.utilisation(*given)


def test_more_than_the_peak_is_a_wrong_clock(speed):
    with pytest.raises(ValueError, match=r"1\.01 of a peak.*--peak-tflops"):
        speed.utilisation(1.01e12, 1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", 835.0),
        ("NVIDIA H200", 989.0),
        ("NVIDIA GH200 480GB", 989.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40", 181.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA A10G", None),  # another chip than the A10
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("GRID A100-10C", None),
        ("Tesla T4", None),  # no bf16
        ("cpu", None),
        ("", None),
    ],
)
def test_the_peak_of_a_device(speed, name, peak):
    assert speed.peak_tflops(name) == peak


@pytest.mark.parametrize(
    "name", ["NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-80GB", "NVIDIA L4"]
)
def test_peaks_agree_with_those_of_lightning(speed, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
    theirs = get_available_flops(torch.device("cuda"), torch.bfloat16)
    assert theirs is not None
    assert speed.peak_tflops(name) == pytest.approx(theirs / 1e12, rel=0.01)


TIMED = {
    "parameters": 2, "parameters_without_ids": 1, "batch": 512, "precision": "bf16-mixed",
    "steps": 3, "step_ms": [100.0, 200.0, 900.0], "wall_ms_per_step": 400.0,
    "requests_per_second": 1280.0, "peak_memory_gb": 1.0,
}  # fmt: skip


def done(found: dict[str, Any]) -> dict[str, Any]:
    return {"status": "done", "found": found}


def rows_of(gpu, parts: dict[str, Any], peak: float | None) -> dict[str, list[Any]]:
    return {name: rest for name, *rest in gpu.figures(parts, peak, "X")}


def test_mfu_is_that_of_the_steps_whose_operations_were_counted(gpu):
    parts = {"training": done(TIMED), "operations": done({"flops": [10e12, 20e12]})}
    parts["product"] = done({"tflops": 50.0})
    rows = rows_of(gpu, parts, 200.0)
    assert rows["MFU, of the data sheet's peak"][0] == pytest.approx(0.5)
    assert rows["operations per step"][0] == pytest.approx(15.0)
    assert rows["training step, batch 512, bf16-mixed"][0] == 200.0
    above = rows["of the measured product rate"]
    assert above[0] is None
    assert "clock is wrong" in above[1]
    value, why = rows_of(gpu, parts, None)["MFU, of the data sheet's peak"]
    assert value is None
    assert "'X'" in why
    assert "--peak-tflops" in why


def test_a_part_that_fails_takes_no_figure_of_another_along(gpu):
    failed = {"status": "failed", "reason": "OutOfMemoryError: CUDA out of memory"}
    parts = {"training": done(TIMED), "operations": failed, "product": failed}
    rows = rows_of(gpu, parts, 200.0)
    assert rows["training step, batch 512, bf16-mixed"][0] == 200.0
    assert rows["operations"] == [None, "failed: OutOfMemoryError: CUDA out of memory"]
    parts = {"training": failed, "operations": done({"flops": [10e12]})}
    rows = rows_of(gpu, parts, 200.0)
    assert rows["operations per step"][0] == pytest.approx(10.0)
    assert rows["MFU"] == [None, "left out: no step was timed"]
    parts = {"training": done(TIMED), "operations": done({"flops": [10e12]})}
    assert "not measured" in rows_of(gpu, parts, 200.0)["of the measured product rate"][1]


def test_percentiles_by_nearest_rank(speed):
    values = list(range(200, 0, -1))
    assert speed.percentile(values, 0.5) == 100
    assert speed.percentile(values, 0.99) == 198
    assert speed.percentile(values[:100], 0.99) == 199
    assert speed.percentile(values[:99], 0.99) is None
    assert speed.percentile([3.0], 0.5) is None


def test_sizes_are_what_they_are_called(parts):
    spec, _ = parts.world_requests(20, 5)
    with torch.device("meta"):
        for name, size in {**parts.FULL.points, "1e8 ": parts.FULL.ranker}.items():
            config = parts.build_config({"ranker": size}).ranker
            ranker = parts.build_ranker(spec, config)
            _, count = parts.module_parameters({"it": ranker})
            assert float(name) == pytest.approx(count, rel=0.25), name
    assert parts.FULL.rank_batch == 256
    assert parts.recipe_of(parts.FULL).ranker.slots == 6
    assert spec.candidate_features == 0


# Time budget


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def run_parts(gpu, durations: dict[str, float], minutes: float, done=None) -> dict[str, Any]:
    clock, saved = Clock(), []
    outcome = {} if done is None else done
    finished = len(outcome)

    def part(name: str, like: str) -> Any:
        def run(*_: Any) -> dict[str, Any]:
            clock.time += abs(durations[name])
            if durations[name] < 0:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return {"at": clock.time}

        return gpu.Part(name, 10.0, run, like)

    names = list(durations)
    made = [part(name, like) for name, like in zip(names, ["", *names])]
    gpu.run_parts(made, outcome, gpu.SMOKE, 60 * minutes, lambda: saved.append(len(outcome)), clock)
    assert len(saved) == len(names) - finished
    return outcome


def test_parts_without_enough_time_are_skipped_and_said_so(gpu):
    done = run_parts(gpu, {"a": 40.0, "b": 45.0, "c": 1.0}, minutes=2)
    assert [each["status"] for each in done.values()] == ["done", "done", "skipped"]
    assert done["b"]["seconds"] == 45.0
    # 35 s are left: enough for the part itself, not for one that takes as long as the one before.
    assert done["c"]["reason"] == "35 s were left, 45 s are needed; option: --minutes"
    rows = {name: rest for name, *rest in gpu.figures({"training": done["c"]}, 1.0, "X")}
    assert rows["training"] == [None, f"skipped: {done['c']['reason']}"]
    assert rows["1e8"] == [None, "skipped: not run yet"]


def test_no_part_begins_after_the_end(gpu):
    done = run_parts(gpu, {"a": 100.0, "b": 1.0}, minutes=1)
    assert done["b"]["reason"].startswith("0 s were left, 100 s")


def test_a_failed_part_stops_no_other(gpu, capsys):
    done = run_parts(gpu, {"a": -5.0, "b": 1.0}, minutes=1)
    assert done["a"]["status"] == "failed"
    assert "out of memory" in done["a"]["reason"]
    assert done["b"]["status"] == "done"
    assert "Traceback" in capsys.readouterr().err


def test_a_figure_that_is_no_number_fails_its_part_alone(gpu, tmp_path, capsys):
    made = [
        gpu.Part("a", 0.0, lambda *_: {"regret": math.nan}),
        gpu.Part("b", 0.0, lambda *_: {"regret": 0.5}),
    ]
    outcome: dict[str, Any] = {}
    out = tmp_path / "record.json"
    gpu.run_parts(made, outcome, gpu.SMOKE, math.inf, lambda: gpu.write_json(out, outcome))
    kept = json.loads(out.read_text())
    assert [each["status"] for each in kept.values()] == ["failed", "done"]
    assert "ValueError" in kept["a"]["reason"]


def test_what_a_failed_part_held_is_free_for_the_next(gpu, capsys):
    class Tensors:
        def __init__(self) -> None:
            self.trainer = self  # a cycle, as a trainer and its model are one

    left: list[weakref.ref[Tensors]] = []

    def fails(*_: Any) -> dict[str, Any]:
        tensors = Tensors()
        left.append(weakref.ref(tensors))
        raise torch.OutOfMemoryError(f"CUDA out of memory beside {len(str(tensors))}")

    made = [gpu.Part("a", 0.0, fails), gpu.Part("b", 0.0, lambda *_: {"gone": left[0]() is None})]
    outcome: dict[str, Any] = {}
    gc.disable()
    try:
        gpu.run_parts(made, outcome, gpu.SMOKE, math.inf, lambda: None)
    finally:
        gc.enable()
    assert outcome["b"]["found"] == {"gone": True}


def test_finished_parts_are_not_run_again(gpu):
    done = run_parts(gpu, {"a": 5.0, "b": 1.0}, 1, {"a": {"status": "done", "found": "kept"}})
    assert done["a"]["found"] == "kept"
    assert done["b"]["found"] == {"at": 1.0}


# Clocks, on a device that works through a queue


class Device:
    """A pretended GPU: calls queue work and return at once; events are read after a wait only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = self.queue = 0.0
        self.waits = 0
        device = self

        class Event:
            def __init__(self, enable_timing: bool = False) -> None:
                assert enable_timing
                self.time = math.nan

            def record(self) -> None:
                self.time = max(device.queue, device.host)

            def elapsed_time(self, end: Event) -> float:
                assert end.time <= device.host, "the event has not happened yet"
                return 1e3 * (end.time - self.time)

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "synchronize", self.wait)

    def now(self) -> float:
        return self.host

    def work(self, seconds: float) -> None:
        self.host += 0.001
        self.queue = max(self.queue, self.host) + seconds

    def wait(self) -> None:
        self.waits += 1
        self.host = max(self.host, self.queue)


def test_a_call_is_timed_until_its_work_is_done(speed, monkeypatch):
    device = Device(monkeypatch)
    clock = speed.clock_of("cuda")

    calls: list[int] = []

    def work(i: int) -> tuple[Any, Any]:
        calls.append(i)
        device.work(0.5)  # moves the batch
        start = clock.mark()
        device.work(9.0 if len(calls) <= 2 else 2.0)
        return start, clock.mark()

    whole, marked = speed.timed(work, clock, count=5, warm=2, limit=1e9, now=device.now)
    assert calls == [0, 1, 0, 1, 2, 3, 4]
    assert whole == pytest.approx([2.501] * 5, abs=2e-3)  # not the 2 ms until the calls return
    assert marked == pytest.approx([2.0] * 5, abs=2e-3)


def test_calls_end_with_the_time(speed, monkeypatch):
    device = Device(monkeypatch)
    clock = speed.clock_of("cuda")

    def work(_: int) -> tuple[Any, Any]:
        start = clock.mark()
        device.work(2.0)
        return start, clock.mark()

    for limit, calls in ((0.0, 1), (5.0, 3)):
        whole, _ = speed.timed(work, clock, count=9, warm=0, limit=limit, now=device.now)
        assert len(whole) == calls


def test_steps_are_timed_without_waiting_for_each(parts, speed, monkeypatch):
    device = Device(monkeypatch)
    monkeypatch.setattr(parts.time, "perf_counter", device.now)
    times = parts.StepTimes(speed.clock_of("cuda"), warm=2)
    for step in range(1, 7):
        device.work(9.0 if step <= 2 else 0.1 * step)
        times.on_train_batch_end(SimpleNamespace(global_step=step))
    assert device.waits == 1  # after the warm-up
    times.on_train_epoch_end()
    assert times.seconds() == pytest.approx([0.3, 0.4, 0.5, 0.6], abs=2e-3)
    assert times.wall == pytest.approx(1.8, abs=5e-3)


# Steps of Lightning's trainer


class OneLayer(L.LightningModule):
    """One linear layer: inputs 4, outputs 3, batch 5."""

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.fail_at = fail_at

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        if index == self.fail_at:
            raise FloatingPointError("NaN")
        time.sleep(0.02)
        return self.layer(batch).square().sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(module: L.LightningModule, watch: Any, folder: Path) -> None:
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, callbacks=[watch], logger=False,
        precision="bf16-mixed", enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    batches: Any = torch.ones(6, 5, 4)
    trainer.fit(module, DataLoader(batches, batch_size=None))


@pytest.mark.filterwarnings("ignore")
def test_operations_of_a_step_are_forward_and_backward(parts, tmp_path):
    counts = parts.StepFlops(warm=2)
    train(OneLayer(), counts, tmp_path)
    # Forward 2 · 5 · 4 · 3; backward the same for the weights, and none for the input.
    assert counts.flops == [240.0] * 4


@pytest.mark.filterwarnings("ignore")
def test_steps_of_the_trainer_are_timed(parts, speed, tmp_path):
    times = parts.StepTimes(speed.clock_of("cpu"), warm=2)
    train(OneLayer(), times, tmp_path)
    assert len(times.seconds()) == 4
    assert min(times.seconds()) >= 0.02
    assert times.wall >= sum(times.seconds())


@pytest.mark.filterwarnings("ignore")
def test_a_step_that_fails_leaves_no_counter_behind(parts, tmp_path):
    before = len(_get_current_dispatch_mode_stack())
    with pytest.raises(FloatingPointError):
        train(OneLayer(fail_at=4), parts.StepFlops(warm=0), tmp_path)
    assert len(_get_current_dispatch_mode_stack()) == before


def test_the_docs_say_whether_it_was_run():
    page = (ROOT / "docs" / "performance.md").read_text()
    recorded = (ROOT / "results" / "gpu.json").exists()
    assert "perf/gpu.py" in page
    assert bool(re.search(r"not been run on a GPU yet", page)) != recorded
