"""Logs of odd shapes: one user, no clicks, lists of one item, requests that show nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from goalrank.errors import DataError
from goalrank.requests import Requests
from goalrank.studies.list_effects import run_list_effects
from goalrank.studies.list_effects.report import answer
from tests.studies.list_effects.kit import study, tables

Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture(scope="module")
def small() -> dict[str, Requests]:
    return tables(0.3, train=200, test=60)


def changed(small: dict[str, Requests], change: Change, *parts: str) -> dict[str, Requests]:
    """Some parts changed."""
    return {
        name: Requests(change(t.frame), items=t.items, users=t.users, info=t.info)
        if name in parts
        else t
        for name, t in small.items()
    }


def one_user(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(user_id=pl.lit(frame["user_id"][0]))


def no_clicks(frame: pl.DataFrame) -> pl.DataFrame:
    clicks = pl.col("feedback").struct.field("click")
    return frame.with_columns(feedback=pl.struct(click=clicks.list.eval(pl.element() * 0)))


def shortened(frame: pl.DataFrame, lengths: pl.Expr) -> pl.DataFrame:
    clicks = pl.col("feedback").struct.field("click")
    return frame.with_columns(
        shown=pl.col("shown").list.head(lengths),
        feedback=pl.struct(click=clicks.list.head(lengths)),
    )


def test_one_user_says_nothing_of_others(small, tmp_path):
    found = run_list_effects(changed(small, one_user, "test"), study((0,), 2), tmp_path)
    assert found["answer"].startswith("Nothing can be said of other users")
    assert found["gains"][0]["low"] is None
    text = (tmp_path / "table.md").read_text()
    assert "One user: no interval can be given" in text
    assert not any(word in text for word in ("None", "nan", "inf "))
    assert (tmp_path / "positions.svg").exists()


def test_test_requests_without_clicks_have_no_auc(small, tmp_path):
    found = run_list_effects(changed(small, no_clicks, "test"), study((0,), 2), tmp_path)
    assert all(model["auc"] is None for model in found["models"].values())
    assert "| – |" in (tmp_path / "table.md").read_text()


def test_validation_without_clicks_cannot_set_levels(small, tmp_path):
    with pytest.raises(DataError, match=r"'click' is 0 .* validation requests.*--max-validation"):
        run_list_effects(changed(small, no_clicks, "validation"), study((0,), 2), tmp_path)


def test_requests_that_show_nothing_change_no_number(small, tmp_path):
    lengths = pl.when(pl.int_range(pl.len()) % 2 == 0).then(4).otherwise(0)
    some = changed(small, lambda frame: shortened(frame, lengths), *small)
    none = changed(small, lambda frame: frame.gather_every(2), *small)
    found = run_list_effects(some, study((0,), 2), tmp_path / "some")
    want = run_list_effects(none, study((0,), 2), tmp_path / "none")
    assert found["gains"] == want["gains"]
    assert found["requests"]["test"] == 30
    assert "without a shown item" in found["notes"][0]


def test_one_list_of_two_among_lists_of_one(small, tmp_path):
    lengths = pl.when(pl.int_range(pl.len()) == 0).then(2).otherwise(1)
    few = changed(small, lambda frame: shortened(frame, lengths), *small)
    found = run_list_effects(few, study((0,), 2), tmp_path)
    assert [row["lists"] for row in found["slots"]] == [60, 1]


def test_too_few_users_for_a_split_at_random_are_named(small, tmp_path):
    with pytest.raises(DataError, match=r"as there are 3 users; remedy: a log of more.*--split"):
        run_list_effects(changed(small, one_user, *small), study((0,), 2, split="random"), tmp_path)


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "One seed, so nothing is said"), (3, "The list matters beyond items")]
)
def test_one_seed_claims_nothing_about_models(seeds, words):
    gain: dict[str, Any] = {"low": 0.1, "high": 0.3, "share": 0.02, "share_low": 0.01}
    gain |= {"share_high": 0.03, "by_seed": [{"mean": 0.2}] * seeds}
    assert answer(gain).startswith(words)
