"""Stages: resumed equals uninterrupted, stopped by validation alone, halted when not a number."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.rewards import ListReward, ObservedGain
from goalrank.training import (
    GroupBuilder,
    GroupConfig,
    GroupTask,
    LoopConfig,
    ObjectiveConfig,
    RewardTask,
    RunOptions,
    SupervisedTask,
    Task,
    read_telemetry,
    run_stage,
)
from goalrank.training.loop.start_candidate import StartCandidate
from goalrank.training.modules.pretraining import PretrainTask
from tests.rankers.kit import SMALL, make_ranker, rich_columns, spec_of

TRAIN = rich_columns(24, 6, seed=1)
VALIDATION = replace(rich_columns(10, 6, seed=2), items=TRAIN.items, users=TRAIN.users)
LOOP = LoopConfig(steps=10, batch_size=4, lr=3e-3, warmup=2, validate_every=4, patience=9)


@pytest.fixture(autouse=True)
def _trained_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are better than the start is the matter of test_start_candidate."""
    monkeypatch.setattr(StartCandidate, "choose", lambda self, trained: None)


def supervised(loop: LoopConfig = LOOP) -> Task[Any]:
    return SupervisedTask(make_ranker("prm", TRAIN).train(), loop, 3, slots=4)


def rewarded(loop: LoopConfig = LOOP) -> Task[Any]:
    torch.manual_seed(0)
    model = ListReward(spec_of(TRAIN), SMALL, TRAIN.kinds, [1.0])
    return RewardTask(model, loop, 3, slots=4, negative=True, lists=3)


def grouped(loop: LoopConfig = LOOP, **changed: Any) -> Task[Any]:
    groups = GroupBuilder(GroupConfig(), 4, [make_ranker("dnn", TRAIN)])
    objective = ObjectiveConfig(supervised=0.1, **changed)
    policy = make_ranker("goalrank", TRAIN).train()
    return GroupTask(policy, loop, 3, reward=ObservedGain(), groups=groups, objective=objective)


def pretrained(loop: LoopConfig = LOOP) -> Task[Any]:
    torch.manual_seed(0)
    return PretrainTask(spec_of(TRAIN), SMALL, loop, 3)


TASKS = {"supervised": supervised, "reward": rewarded, "group": grouped, "pretrain": pretrained}


def options(folder: Path, **changed: Any) -> RunOptions:
    return RunOptions(folder, progress=False, accelerator="cpu", devices=1, **changed)


def validation(name: str) -> Any:
    return None if name == "pretrain" else VALIDATION


class Crash(Exception):
    """Stands for whatever ends a process."""


def stepping(task: Task[Any], change: Callable[[Tensor], Tensor]) -> Task[Any]:
    """The task with every training loss changed."""
    whole = task.training_step

    def training_step(self: Task[Any], batch: Any, _: int) -> Tensor:
        loss = whole(batch, 0)
        assert isinstance(loss, Tensor)
        return change(loss)

    task.training_step = MethodType(training_step, task)  # type: ignore[method-assign]
    return task


def crash_at(task: Task[Any], step: int, error: BaseException | None = None) -> Task[Any]:
    def change(loss: Tensor) -> Tensor:
        if task.global_step == step:
            raise error or Crash
        return loss

    return stepping(task, change)


def not_a_number(task: Task[Any], since: int) -> Task[Any]:
    return stepping(task, lambda x: x * (float("nan") if task.global_step >= since else 1))


@pytest.mark.parametrize(("name", "step"), [*((n, 9) for n in TASKS), ("group", 4), ("group", 2)])
def test_resumed_equals_uninterrupted_bit_for_bit(name, step, tmp_path: Path):
    whole = TASKS[name]()
    initial = {k: v.clone() for k, v in whole.model.state_dict().items()}
    rows = run_stage(whole, TRAIN, validation(name), options(tmp_path / "whole"))
    want = whole.model.state_dict()
    assert any(not torch.equal(v, initial[k]) for k, v in want.items())
    with pytest.raises(Crash):
        run_stage(crash_at(TASKS[name](), step), TRAIN, validation(name), options(tmp_path / "cut"))
    torch.rand(7)  # another process has another random state
    resumed = TASKS[name]()
    first: list[int] = []

    def note_step(loss: Tensor) -> Tensor:
        first.append(resumed.global_step)
        return loss

    stepping(resumed, note_step)
    again = run_stage(resumed, TRAIN, validation(name), options(tmp_path / "cut", resume=True))
    assert first == list(range(step // 4 * 4, 10))
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, want[key]), key
    assert again == rows  # its log is whole, too


def test_a_finished_stage_is_loaded(tmp_path: Path):
    task = supervised()
    rows = run_stage(task, TRAIN, VALIDATION, options(tmp_path))
    kept = load_file(tmp_path / "weights.safetensors")
    again = crash_at(supervised(), 0)
    assert run_stage(again, TRAIN, VALIDATION, options(tmp_path, resume=True)) == rows
    for key, value in again.model.state_dict().items():
        assert torch.equal(value, kept[key])
        assert torch.equal(value, task.model.state_dict()[key])
    afresh = supervised()
    run_stage(afresh, TRAIN, VALIDATION, options(tmp_path))  # without resume: from the start
    assert torch.equal(next(afresh.model.parameters()), next(task.model.parameters()))


def scored(task: Task[Any], scores: list[float]) -> Task[Any]:
    """Validation that gives these scores, one a validation."""
    left = iter(scores)
    current = [0.0]

    def start() -> None:
        task._sums, task._counts = {}, {}
        current[0] = next(left)

    task.on_validation_epoch_start = start  # type: ignore[method-assign]
    task.validate_batch = lambda batch: {  # type: ignore[method-assign]
        "score": torch.full((batch.size,), current[0])
    }
    return task


def steps_run(folder: Path) -> int:
    return sum("val_score" in row for row in read_telemetry(folder))


def test_early_stopping_keeps_the_best(tmp_path: Path):
    loop = LOOP.model_copy(update={"steps": 40, "validate_every": 2, "patience": 2, "warmup": 0})
    kept = {}
    task = scored(supervised(loop), [0.1, 0.5, 0.4, 0.3, 0.9, 1.0])

    def spy(loss: Tensor) -> Tensor:
        kept[task.global_step] = {k: v.clone() for k, v in task.model.state_dict().items()}
        return loss

    run_stage(stepping(task, spy), TRAIN, VALIDATION, options(tmp_path))
    assert steps_run(tmp_path) == 4  # best, then two without improvement
    for key, value in task.model.state_dict().items():
        assert torch.equal(value, kept[4][key]), key  # after four steps came the 0.5


def test_a_small_log_is_validated_twice_a_pass(tmp_path: Path):
    loop = LOOP.model_copy(update={"steps": 40, "validate_every": 0, "patience": 2, "warmup": 0})
    run_stage(scored(rewarded(loop), [0.5, 0.4, 0.3]), TRAIN, VALIDATION, options(tmp_path))
    validated = [row["step"] for row in read_telemetry(tmp_path) if "val_score" in row]
    assert validated == [2, 5, 8]  # 24 requests are six batches of four


def test_training_loss_stops_nothing(tmp_path: Path):
    loop = LOOP.model_copy(update={"patience": 1})
    task = scored(supervised(loop), [0.1, 0.2, 0.3])
    # Ever worse in training, ever better in validation.
    stepping(task, lambda loss: loss * 0 + task.global_step)
    run_stage(task, TRAIN, VALIDATION, options(tmp_path))
    assert steps_run(tmp_path) == 3


@pytest.mark.parametrize("changed", [{"patience": 0}, {}])
def test_without_validation_or_patience_the_last_weights_stay(changed, tmp_path: Path):
    loop = LOOP.model_copy(update=changed)
    task = scored(supervised(loop), [0.9, 0.5, 0.1])
    run_stage(task, TRAIN, VALIDATION if changed else None, options(tmp_path))
    assert task.global_step == 10
    other = supervised(loop)
    run_stage(other, TRAIN, None, options(tmp_path / "b"))
    for key, value in task.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[key])


@pytest.mark.parametrize(("steps", "since"), [(10, 1), (10, 9), (7, 1), (7, 5), (7, 6)])
def test_a_loss_that_is_no_number_halts(steps, since, tmp_path: Path):
    task = not_a_number(supervised(LOOP.model_copy(update={"steps": steps})), since)
    with pytest.raises(FloatingPointError, match=r"training\.lr"):
        run_stage(task, TRAIN, None, options(tmp_path))
    assert not (tmp_path / "weights.safetensors").exists()


def test_ctrl_c_is_a_keyboard_interrupt_and_can_be_resumed(tmp_path: Path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_stage(crash_at(supervised(), 5, KeyboardInterrupt()), TRAIN, None, options(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before
    task = supervised()
    run_stage(task, TRAIN, None, options(tmp_path, resume=True))
    assert task.global_step == 10


def test_user_faults(tmp_path: Path):
    with pytest.raises(ConfigError, match="no training requests"):
        run_stage(supervised(), TRAIN.take(slice(0)), None, options(tmp_path))
    bad = replace(options(tmp_path), accelerator="abacus")
    with pytest.raises(ConfigError, match="accelerator 'abacus' is unknown"):
        run_stage(supervised(), TRAIN, None, bad)


def test_telemetry_of_groups(tmp_path: Path):
    rows = run_stage(grouped(), TRAIN, VALIDATION, options(tmp_path))
    seen = {name for row in rows for name in row}
    assert {
        "loss", "reward_mean", "reward_std", "zero_variance", "entropy_policy", "best_from/own",
        "val_score", "val_reward", "val_ndcg",
    } <= seen  # fmt: skip


def test_a_row_of_the_log_has_the_mean_loss_since_the_last(tmp_path: Path):
    """One batch's loss says little: its requests have about as many candidates each."""
    losses: list[float] = []

    def note(loss: Tensor) -> Tensor:
        losses.append(float(loss.detach()))
        return loss

    task = stepping(supervised(replace_loop(steps=40, validate_every=15)), note)
    rows = run_stage(task, TRAIN, VALIDATION, options(tmp_path))
    logged = {int(row["step"]): row["loss"] for row in rows if "loss" in row}
    parts = {9: losses[:10], 19: losses[15:20], 29: losses[20:30], 39: losses[30:]}
    assert logged == pytest.approx({step: sum(part) / len(part) for step, part in parts.items()})


def test_figures_of_groups_are_logged_where_steps_measured_them(tmp_path: Path, monkeypatch):
    """Steps on slot groups measure none of them; a row never repeats an earlier one's."""
    measured: dict[int, float] = {}
    task = grouped(replace_loop(steps=80, validate_every=80), slot_group_share=0.9)

    def telemetry(*_: Any) -> dict[str, Tensor]:
        measured[task.global_step] = 1.0 + task.global_step**2
        return {"reward_mean": torch.tensor(measured[task.global_step])}

    monkeypatch.setattr("goalrank.training.modules.group.group_telemetry", telemetry)
    rows = run_stage(task, TRAIN, VALIDATION, options(tmp_path))
    want = {}
    for last in range(9, 80, 10):
        part = [value for step, value in measured.items() if last - 10 < step <= last]
        if part:
            want[last] = sum(part) / len(part)
    assert 1 < len(want) < 8  # some intervals measured nothing
    assert {int(r["step"]): r["reward_mean"] for r in rows if "reward_mean" in r} == want


@pytest.mark.parametrize("make", [supervised, rewarded, grouped])
def test_mixed_precision_trains_with_clipped_gradients(make, tmp_path):
    task = make(replace_loop(precision="bf16-mixed", clip=0.5))
    before = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    run_stage(task, TRAIN, VALIDATION, RunOptions(tmp_path, progress=False, accelerator="cpu"))
    after = dict(task.model.named_parameters())
    assert all(torch.isfinite(p).all() for p in after.values())
    assert any(not torch.equal(before[name], p) for name, p in after.items())


def replace_loop(**changes: Any) -> LoopConfig:
    return LOOP.model_copy(update=changes)


def test_without_a_bar_a_stage_says_how_far_it_is(tmp_path, monkeypatch):
    said: list[str] = []
    ways = RunOptions(tmp_path / "prm", progress=False, accelerator="cpu", say=said.append)
    run_stage(supervised(), TRAIN, VALIDATION, ways)
    assert said == []  # over long before 30 seconds
    monkeypatch.setattr("goalrank.training.loop.callbacks.QUIET_S", 0.0)
    run_stage(supervised(), TRAIN, VALIDATION, ways)
    assert said[0] == "prm: step 1 of at most 10"
    assert len(said) == 10
