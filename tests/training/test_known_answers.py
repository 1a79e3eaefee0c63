"""A log that knows few answers: only the candidates that have one are encoded, with the same result."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from goalrank.rankers import DNN
from goalrank.requests import Batch
from goalrank.rewards import ListReward
from goalrank.training import LoopConfig, RewardTask
from tests.rankers.kit import SMALL, rich_columns, shake, spec_of

LOGGED = rich_columns(12, 9, shown=4, protocol="exposed", seed=4)
QUIET = replace(SMALL, dropout=0.0, id_dropout=0.0)


def batch() -> Batch:
    made = LOGGED.batch(slice(None))
    assert made.shown.shape[1] < made.candidates.shape[1]
    assert (made.shown < 0).any()  # some lists are shorter
    return made


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def task(layers: int, negative: bool = False) -> tuple[RewardTask, ListReward, list[int]]:
    """A task, its model, and how many candidates a request each call to encode took."""
    torch.manual_seed(0)
    sizes = replace(QUIET, layers=layers)
    model = ListReward(spec_of(LOGGED), sizes, LOGGED.kinds, [1.0], slots=4)
    shake(model)
    made = RewardTask(model, LoopConfig(), 0, slots=4, negative=negative, lists=2)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    widths: list[int] = []
    model.encoder.register_forward_hook(lambda _, __, out: widths.append(out.candidates.shape[1]))
    return made, model, widths


@pytest.mark.parametrize("layers", [0, 1])
def test_a_reward_learns_the_same_from_the_shown_alone(layers):
    made, model, widths = task(layers)
    logged = batch()
    lists, feedback = logged.shown.unsqueeze(1), logged.feedback.unsqueeze(1)
    whole = gradients(model, model.loss(logged, lists, feedback, lists >= 0))
    widths.clear()
    loss = made.training_step(logged, 0)
    assert widths == [4 if layers == 0 else 9]
    found = gradients(model, loss)
    assert found.keys() == whole.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)


def test_validation_reads_the_shown_alone():
    made, model, widths = task(0)
    logged = batch()
    found = made.eval().validate_batch(logged)["score"]
    assert widths == [4]
    for b in range(logged.size):
        lists = logged.shown[b : b + 1].unsqueeze(1)
        one = LOGGED.batch([b])
        lists = one.shown.unsqueeze(1)
        loss = model.loss(one, lists, one.feedback.unsqueeze(1), lists >= 0)
        assert found[b].item() == pytest.approx(-loss.item(), rel=1e-4)


def test_lists_drawn_from_all_need_all():
    made, _, widths = task(0, negative=True)
    made.training_step(batch(), 0)
    assert widths == [9]


def test_dnn_learns_the_same_from_known_answers_alone():
    torch.manual_seed(0)
    model = DNN(spec_of(LOGGED), QUIET)
    shake(model)
    logged = batch()
    known = logged.observed
    each = nn.functional.binary_cross_entropy_with_logits(
        model.scores(logged), logged.relevance, reduction="none"
    )
    whole = gradients(model, (each * known).sum() / known.sum())
    widths: list[int] = []
    model.encoder.register_forward_hook(lambda _, __, out: widths.append(out.candidates.shape[1]))
    loss = model.loss(logged, 4)
    assert widths == [int(known.sum(1).max())]
    assert widths[0] < 9
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)
