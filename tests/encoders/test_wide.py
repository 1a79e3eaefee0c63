"""Plain features, the wide path, and the linear solution that it starts from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import minimize
from scipy.stats import rankdata

from goalrank.encoders import LogitTable, PlainFeatures, Wide, fit_conditional_logit, solve_logit
from goalrank.encoders.conditional_logit import logit_table
from goalrank.testing import make_requests, make_rich_requests, spec_of
from tests.helpers import planted_choices

ROWS = slice(None)


@given(st.integers(0, 10_000))
def test_ranks_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = make_requests(5, 7, features=3, seed=seed)
    tied = np.round(columns.candidate_features * rng.choice([1, 4])) / 4
    columns = replace(columns, candidate_features=tied.astype(np.float32))
    features = PlainFeatures(spec_of(columns))
    batch = columns.batch(ROWS)
    ranks = features(batch)[..., 2 * features.numbers :].numpy()
    for b, real in enumerate(batch.candidate_mask.numpy()):
        values = batch.candidate_features[b].numpy()[real]
        want = (rankdata(values, axis=0) - 0.5) / real.sum() - 0.5
        np.testing.assert_allclose(ranks[b, real, :3], want, atol=1e-6)
        assert not ranks[b, ~real].any()


@given(st.integers(0, 10_000), st.floats(0.1, 10.0), st.floats(-2.0, 2.0))
def test_ranks_do_not_feel_the_scale(seed: int, slope: float, shift: float) -> None:
    columns = make_requests(4, 6, seed=seed)
    squashed = columns.candidate_features * np.float32(0.1)  # clipping at 8 is not at stake
    columns = replace(columns, candidate_features=squashed)
    moved = replace(columns, candidate_features=squashed * np.float32(slope) + np.float32(shift))
    features = PlainFeatures(spec_of(columns))
    last = slice(2 * features.numbers, None)
    ours, theirs = features(columns.batch(ROWS)), features(moved.batch(ROWS))
    torch.testing.assert_close(ours[..., last], theirs[..., last], atol=1e-5, rtol=0)


def test_a_planted_choice_is_recovered() -> None:
    columns = planted_choices([1.0, -0.5, 0.0])
    spec = spec_of(columns)
    solution = fit_conditional_logit(spec, columns, 0)
    wide = Wide(spec)
    wide.start_from([solution])
    batch = columns.batch(ROWS)
    real = batch.candidate_mask
    found = wide(batch).squeeze(-1).detach()
    want = batch.candidate_features @ torch.tensor([1.0, -0.5, 0.0])
    both = torch.stack([found - _mean(found, real), want - _mean(want, real)])[:, real]
    assert float(torch.corrcoef(both)[0, 1]) > 0.99
    assert float(both[0].std() / both[1].std()) == pytest.approx(1.0, abs=0.1)


def _mean(values: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    return (values * real).sum(-1, keepdim=True) / real.sum(-1, keepdim=True)


def test_the_gradient_is_zero_at_the_solution() -> None:
    """A second implementation of the loss, by autograd, agrees that it is a minimum."""
    columns = make_rich_requests(200, 6, seed=3)
    spec = spec_of(columns)
    solution = fit_conditional_logit(spec, columns, 0, ridge=2.0)
    table = logit_table(spec, columns, 0)
    scale = torch.from_numpy(table.features.std(0))
    scale = torch.where(scale > 1e-8, scale, 1.0)
    x = torch.from_numpy(table.features) / scale
    shares = torch.from_numpy(table.category.toarray())
    w = (solution.weight.double() * scale).requires_grad_()
    v = solution.category.double().requires_grad_()
    scores, label = x @ w + shares @ v, torch.from_numpy(table.label)
    loss = (w**2).sum() + 10 * (v**2).sum()
    for group in range(int(table.group.max()) + 1):
        rows = table.group == group
        share = label[rows] / label[rows].sum()
        loss = loss - share @ scores[rows].log_softmax(0)
    loss.backward()
    assert w.grad is not None
    assert v.grad is not None
    assert float(w.grad.abs().max()) < 0.02
    assert float(v.grad.abs().max()) < 0.02


def test_constant_infinite_and_separating_features_stay_finite() -> None:
    columns = make_requests(60, 6, shown=6, features=3, seed=1)
    label = np.zeros(len(columns.candidates), np.float32)
    request = np.repeat(np.arange(60), np.diff(columns.shown_start))
    label[columns.candidate_start[request] + columns.shown] = columns.feedback[:, 0]
    features = columns.candidate_features.copy()
    features[:, 0] = 3.0  # constant
    features[:, 1] = label  # the label itself separates the data
    features[::7, 2] = 1e30
    columns = replace(columns, candidate_features=features)
    solution = fit_conditional_logit(spec_of(columns), columns, 0)
    assert solution.weight.isfinite().all()
    assert solution.weight[0] == 0.0
    assert solution.weight[1] > 0
    assert np.isfinite([solution.slope, solution.intercept]).all()


@pytest.mark.parametrize("feedback", [0.0, 1.0])
def test_without_an_order_to_learn_all_weights_are_zero(feedback: float) -> None:
    columns = make_requests(1, 5, shown=5, protocol="exposed")
    columns = replace(columns, feedback=np.full_like(columns.feedback, feedback))
    solution = fit_conditional_logit(spec_of(columns), columns, 0)
    assert not solution.weight.any()


def test_logits_of_probabilities_have_the_right_level() -> None:
    """The mean predicted probability is the mean of the labels, and the order stays."""
    columns = make_rich_requests(300, 6, shown=6, protocol="exposed", seed=4)
    spec = spec_of(columns)
    solution = fit_conditional_logit(spec, columns, 0)
    order, level = Wide(spec), Wide(spec, probabilities=True)
    for wide in (order, level):
        wide.start_from([solution])
    batch = columns.batch(ROWS)
    known = batch.candidate_mask & batch.observed
    table = logit_table(spec, columns, 0)
    rows = known & (batch.relevance > 0).any(-1, keepdim=True)
    rows = rows & ((batch.relevance <= 0) & known).any(-1, keepdim=True)
    mean = level(batch).detach().squeeze(-1).sigmoid()[rows].mean()
    assert float(mean) == pytest.approx(float(table.label.mean()), abs=0.01)
    scores = torch.stack([wide(batch).detach().squeeze(-1)[known] for wide in (order, level)])
    if solution.slope > 1e-3:
        assert float(torch.corrcoef(scores)[0, 1]) == pytest.approx(1.0, abs=1e-3)


def test_positions_alone_are_scored_like_all() -> None:
    columns = make_rich_requests()
    wide = Wide(spec_of(columns), 2, probabilities=True)
    for parameter in wide.parameters():
        torch.nn.init.normal_(parameter)
    batch = columns.batch(ROWS)
    at = torch.zeros(batch.size, 2, dtype=torch.long)
    at[:, 1] = 1
    torch.testing.assert_close(wide(batch, at=at), wide(batch)[:, :2])


def test_without_numbers_there_is_nothing_to_add() -> None:
    columns = make_requests(features=0)
    spec = replace(spec_of(columns), has_score=False)
    wide = Wide(spec)
    assert not list(wide.parameters())
    assert not wide(columns.batch(ROWS)).any()


def test_features_that_say_nearly_the_same_cost_few_steps(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(3200, 5)), 8, axis=1)
    features += 0.1 * rng.normal(size=features.shape)
    utility = features @ (3 * rng.normal(size=40))
    assert steps_of(chosen_from(utility, features), monkeypatch) < 25


def test_categories_of_unlike_frequency_cost_few_steps(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    often = 1 / np.arange(1, 201)
    row = np.arange(32_000)
    column = rng.choice(200, len(row), p=often / often.sum())
    shares = sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(row), 200))
    utility = shares @ rng.normal(size=200)
    table = chosen_from(utility, rng.normal(size=(len(row), 1)), shares)
    assert steps_of(table, monkeypatch) < 18


def test_features_without_use_cost_and_weigh_nothing() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(800, 5))
    use = torch.tensor([True, False, True, False, True])
    table = chosen_from(features.sum(1), features)
    found = solve_logit(table, use=use)
    few = solve_logit(replace(table, features=features[:, use.numpy()]))
    assert torch.equal(found.weight[use], few.weight)
    assert not found.weight[~use].any()
    nothing = solve_logit(table, use=torch.zeros(5, dtype=torch.bool))
    assert not nothing.has_weights


def chosen_from(
    utility: np.ndarray, features: np.ndarray, shares: sparse.csr_array | None = None
) -> LogitTable:
    """Requests of 8 candidates of which one is taken, by utility and chance."""
    group = np.repeat(np.arange(len(utility) // 8), 8)
    noisy = utility + np.random.default_rng(1).gumbel(size=len(utility))
    label = np.zeros(len(group))
    label[np.arange(len(group) // 8) * 8 + noisy.reshape(-1, 8).argmax(1)] = 1
    empty = sparse.csr_array((len(group), 0))
    return LogitTable(features, empty if shares is None else shares, label, group)


def steps_of(table: LogitTable, monkeypatch: pytest.MonkeyPatch) -> int:
    steps: list[int] = []

    def counted(*args, **options):
        found = minimize(*args, **options)
        steps.append(found.nit)
        return found

    monkeypatch.setattr("scipy.optimize.minimize", counted)
    solve_logit(table)
    return steps[0]
