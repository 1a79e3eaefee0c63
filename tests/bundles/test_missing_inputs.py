"""The library refuses requests that lack inputs of training, or ranks with their means and says so."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from goalrank.api import rank_dataset
from goalrank.bundles import Bundle, Predictor
from goalrank.errors import ConfigError, MissingInputError
from goalrank.requests import Requests
from tests.bundles.kit import make_bundle
from tests.tables import make_table


def varied(rows: int = 30, seed: int = 3) -> Requests:
    """Requests whose feedback and times of history items vary."""
    table = make_table(rows, seed=seed)
    rng = np.random.default_rng(seed)
    lengths = table.frame["history"].list.len().to_list()
    liked = pl.Series([rng.normal(size=n).tolist() for n in lengths], dtype=pl.List(pl.Float32))
    return Requests(
        table.frame.with_columns(history_feedback=liked),
        items=table.items, users=table.users, info=table.info,
    )  # fmt: skip


BUNDLE = make_bundle("goalrank", varied(60, seed=0), reward=False)


def without(name: str, table: Requests) -> Requests:
    info = table.info
    if name == "candidate_features":
        info = info.model_copy(update={"candidate_features": ()})
    frame = table.frame.drop(name)
    return Requests(frame, items=table.items, users=table.users, info=info)


INPUTS = ("candidate_score", "candidate_features", "history_feedback", "history_time")


@pytest.mark.parametrize("name", INPUTS)
def test_every_way_to_rank_refuses(name, tmp_path):
    asked = without(name, varied())
    asked.write(tmp_path / "asked.parquet")
    for rank in (
        BUNDLE.rank,
        Predictor(BUNDLE).rank,
        lambda table: Predictor(BUNDLE).rank(list(table.frame.iter_rows(named=True))),
        lambda _: BUNDLE.rank_file(tmp_path / "asked.parquet", tmp_path / "lists.parquet"),
        lambda _: rank_dataset(
            BUNDLE, str(tmp_path / "asked.parquet"), str(tmp_path / "lists.parquet")
        ),
    ):
        with pytest.raises(MissingInputError, match=name):
            rank(asked)
    assert not (tmp_path / "lists.parquet").exists()


@pytest.mark.parametrize("name", INPUTS)
def test_every_way_to_rank_gives_the_same_lists_by_means(name, tmp_path):
    asked = without(name, varied())
    asked.write(tmp_path / "asked.parquet")
    wanted = BUNDLE.rank(asked, missing="mean")
    empty = asked.frame["history"].list.len() == 0
    marks = [[] if hidden and name.startswith("history") else [name] for hidden in empty]
    assert wanted["filled"].to_list() == marks
    rows = list(asked.frame.iter_rows(named=True))
    for got in (
        Predictor(BUNDLE, missing="mean").rank(asked),
        Predictor(BUNDLE).rank(asked, missing="mean"),
        Predictor(BUNDLE, items=asked.items, users=asked.users, missing="mean").rank(rows),
    ):
        assert [each.items for each in got] == wanted["items"].to_list()
        assert [list(each.filled) for each in got] == marks
    out = tmp_path / "lists.parquet"
    rank_dataset(BUNDLE, str(tmp_path / "asked.parquet"), str(out), missing="mean")
    assert pl.read_parquet(out).equals(wanted)


def test_complete_requests_are_not_marked():
    asked = varied()
    assert "filled" not in BUNDLE.rank(asked).columns
    lists = BUNDLE.rank(asked, missing="mean")
    assert lists["filled"].list.len().sum() == 0
    assert lists.drop("filled").equals(BUNDLE.rank(asked))


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match=r"'none'.*option: missing"):
        Predictor(BUNDLE, missing="none")  # type: ignore[arg-type]


def changed(items: pl.DataFrame | None) -> pl.DataFrame:
    """Side table of items whose numbers and categories have moved on."""
    assert items is not None
    numbers = [name for name, dtype in items.schema.items() if dtype.is_float()]
    return items.with_columns(pl.col(numbers).reverse())


def test_the_predictors_side_table_overrides_as_the_requests_does():
    asked = varied()
    news = changed(asked.items)
    bare = Requests(asked.frame, info=asked.info)
    told = Requests(asked.frame, items=news, info=asked.info)
    wanted = Predictor(BUNDLE).rank(told)
    plain = Predictor(BUNDLE).rank(bare)
    for got in (
        Predictor(BUNDLE, items=news).rank(bare),
        Predictor(BUNDLE, items=news).rank(list(bare.frame.iter_rows(named=True))),
        Predictor(BUNDLE, items=asked.items).rank(told),
    ):
        assert [each.log_prob for each in got] == pytest.approx(
            [each.log_prob for each in wanted], abs=1e-5
        )
    moved = [a.log_prob - b.log_prob for a, b in zip(wanted, plain)]
    assert np.abs(moved).max() > 1e-3, "the features that moved change nothing"


def test_bundles_of_earlier_versions_ask_for_no_history(tmp_path):
    old = Bundle.load("tests/data/bundle-0.1.0")
    assert set(old.encoder.inputs.asked_for) <= {"candidate_score", "candidate_features"}
