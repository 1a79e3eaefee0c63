"""Every ranker of ours keeps the published contract; no ranker escapes."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import goalrank.rankers
from goalrank.rankers import Ranker, ranker_names
from goalrank.testing import RankerCase, RankerContract
from tests.rankers.kit import (
    BY_INPUT,
    FACTORIES,
    SPARSE,
    WHOLE_LIST,
    WITH_TIES,
    config,
    make_ranker,
    rich_columns,
)


class TestRankers(RankerContract):
    @pytest.fixture(params=sorted(FACTORIES))
    def case(self, request: pytest.FixtureRequest) -> RankerCase:
        name = request.param
        return RankerCase(
            FACTORIES[name],
            config(name) if name in ranker_names() else None,
            whole_list=name in WHOLE_LIST,
            may_tie=name in WITH_TIES,
            by_input=name in BY_INPUT,
            sparse=name in SPARSE,
        )


def concrete_rankers() -> set[type[Ranker]]:
    """Every class of the rankers' room that could be instantiated."""
    found: set[type[Ranker]] = set()
    for info in pkgutil.walk_packages(goalrank.rankers.__path__, "goalrank.rankers."):
        for value in vars(importlib.import_module(info.name)).values():
            if not (isinstance(value, type) and issubclass(value, Ranker)):
                continue
            members = (getattr(value, n, None) for n in dir(value))
            if not any(getattr(m, "__isabstractmethod__", False) for m in members):
                found.add(value)
    return found


def test_every_ranker_is_tested():
    columns = rich_columns(6, 6, seed=2)
    covered = {type(make_ranker(name, columns)) for name in FACTORIES}
    missing = {c.__name__ for c in concrete_rankers() - covered}
    assert not missing, f"give {missing} a line in tests/rankers/kit.py"
