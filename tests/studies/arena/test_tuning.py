"""The space of settings: every one of them can be built, for every row."""

from __future__ import annotations

from itertools import product

import pytest

from goalrank.rankers import build_ranker
from goalrank.requests import Encoder
from goalrank.settings import merge
from goalrank.studies.arena.tuning import apply, draw, space
from goalrank.studies.common import RowSpec, TuningSpec, load_suite, standard_rows
from goalrank.studies.common.row_builder import RowBuilder
from tests.studies.arena.test_suite import SUITES
from tests.tables import make_table

SPEC = Encoder.fit(make_table(30)).spec


@pytest.mark.parametrize("label", sorted(standard_rows()))
@pytest.mark.parametrize("suite", ["retrieved-ml1m", "smoke"])
def test_every_setting_of_every_row_can_be_built(label, suite):
    settings = load_suite(next(path for path in SUITES if path.stem == suite))
    row = RowSpec(**standard_rows()[label])
    recipe = merge(settings.recipe, {"ranker": {"slots": settings.slots}})
    builder = RowBuilder(None, recipe)  # type: ignore[arg-type]
    knobs = space(row, settings.base().ranker.sizes().width, sized=False)
    # Each value of each knob, the others at their first.
    for name, values in knobs.items():
        for value in values:
            tried, over = apply(row, {**{k: v[0] for k, v in knobs.items()}, name: value})
            config = builder.config(RowSpec(**tried.model_dump()), {}, over)
            if not row.is_composite:
                build_ranker(SPEC, config.ranker)


def test_rows_that_learn_have_a_space_and_baselines_have_none():
    for label, row in standard_rows().items():
        knobs = space(RowSpec(**row), 64, sized=False)
        assert bool(knobs) == (label not in ("evaluator_sort", "baselines"))
        assert all(len(values) > 1 for values in knobs.values())


@pytest.mark.parametrize(("trials", "seed"), list(product([1, 2, 8], [0, 1])))
def test_draws_are_fixed_and_begin_with_the_recipe(trials, seed):
    knobs = space(RowSpec(name="prm"), 64, sized=False)
    drawn = draw(knobs, trials, seed)
    assert drawn == draw(knobs, trials, seed)
    assert len(drawn) == trials
    assert drawn[0] == {}
    assert all(set(each) == set(knobs) for each in drawn[1:])
    if trials == 8:
        assert drawn != draw(knobs, trials, seed + 1)


def test_width_stays_where_the_suite_sets_sizes():
    assert "set.ranker.width" not in space(RowSpec(name="prm"), 64, sized=True)
    assert TuningSpec().trials == 0
