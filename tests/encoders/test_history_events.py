"""What the encoder knows of a history: order, place and gaps, not ages alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from goalrank.encoders import HistoryEvents, RequestEncoder
from goalrank.rankers.history_vectors import HistoryVectors
from tests.rankers.kit import SMALL, padded, rich_columns, shake, spec_of

COLUMNS = rich_columns(4, 5, seed=3)


def with_ages(hours: list[float], slots: int):
    """One request whose history, oldest first, has these ages."""
    batch = COLUMNS.batch([0])
    kept = len(hours)
    age = torch.zeros(1, slots)
    age[0, :kept] = torch.tensor(hours).log1p()
    mask = torch.arange(slots)[None] < kept
    history = torch.arange(1, slots + 1)[None] * mask
    return replace(
        batch,
        history=history,
        history_mask=mask,
        history_age=age,
        history_feedback=torch.ones(1, slots) * mask,
    )


def numbers(batch) -> torch.Tensor:
    """What the layer reads: its output where the weights are the identity."""
    layer = HistoryEvents(4)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
        layer.bias.zero_()
        return layer.of(batch)[0]


def test_place_and_gap_of_each_event():
    found = numbers(with_ages([30.0, 6.0, 2.0], slots=5))
    place = [math.log1p(2), math.log1p(1), 0.0, 0.0, 0.0]
    gap = [math.log1p(24.0), math.log1p(4.0), math.log1p(2.0), 0.0, 0.0]
    torch.testing.assert_close(found[:, 2], torch.tensor(place))
    torch.testing.assert_close(found[:, 3], torch.tensor(gap), atol=1e-5, rtol=1e-5)


def test_a_session_and_a_month_of_the_same_age_differ():
    session = numbers(with_ages([700.02, 700.01, 700.0], slots=3))
    month = numbers(with_ages([720.0, 710.0, 700.0], slots=3))
    assert (session[:, 1] - month[:, 1]).abs().max() < 0.03, "the ages hardly tell them apart"
    assert (session[:2, 3] - month[:2, 3]).abs().min() > 2


@torch.no_grad()
def test_two_events_of_one_moment_keep_their_order():
    torch.manual_seed(0)
    model = RequestEncoder(spec_of(COLUMNS), replace(SMALL, layers=0))
    shake(model)
    model.eval()
    batch = with_ages([5.0, 1.0, 1.0], slots=3)
    order = torch.tensor([0, 2, 1])
    swapped = replace(batch, history=batch.history[:, order])
    assert (model(batch).context - model(swapped).context).abs().max() > 1e-3


def test_padding_changes_nothing():
    batch = COLUMNS.batch(slice(None))
    longer = padded(batch, 0, 4)
    layer = HistoryEvents(8)
    real = batch.history_mask
    torch.testing.assert_close(layer.of(longer)[:, : real.shape[1]][real], layer.of(batch)[real])


@pytest.mark.parametrize("kind", ["encoder", "vectors"])
@torch.no_grad()
def test_weights_of_feedback_and_age_alone_still_load(kind):
    def make():
        if kind == "encoder":
            return RequestEncoder(spec_of(COLUMNS), SMALL)
        return HistoryVectors(8)

    torch.manual_seed(1)
    saved = make().state_dict()
    saved["event.weight"] = saved["event.weight"][:, :2].clone()
    model = make()
    model.load_state_dict(saved)
    torch.testing.assert_close(model.event.weight[:, :2], saved["event.weight"])
    assert not model.event.weight[:, 2:].any()


@pytest.mark.parametrize("feedback", [3e38, -3e38, 1e25])
def test_absurd_feedback_leaves_numbers(feedback):
    """Squares of it are infinite in single precision, so that all scores of a request were NaN."""
    batch = COLUMNS.batch(slice(None))
    absurd = replace(batch, history_feedback=torch.full_like(batch.history_feedback, feedback))
    encoder = RequestEncoder(spec_of(COLUMNS), SMALL).eval()
    with torch.inference_mode():
        found = encoder(absurd)
    assert found.candidates.isfinite().all()
    assert found.context.isfinite().all()
    usual = with_ages([30.0, 6.0], slots=2)
    given = torch.tensor([[1e6, -2.5]])
    assert numbers(replace(usual, history_feedback=given))[:, 0].tolist() == given[0].tolist()
