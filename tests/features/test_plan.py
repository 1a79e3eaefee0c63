"""Plans of features: names, refusals, and what files keep of them."""

from __future__ import annotations

import numpy as np
import pytest

from goalrank.errors import ConfigError
from goalrank.features import (
    DEFAULT_FAMILIES,
    FEATURES,
    Feature,
    FeatureFamily,
    FeatureInputs,
    FeaturePlan,
    ItemCategories,
    Needs,
    feature_meanings,
)
from goalrank.logs import CHANNELS

GENRES = ItemCategories.from_pairs(np.array([0, 1]), np.array([0, 1]))
INPUTS = FeatureInputs(("click",), {"genre": GENRES}, repeats=True)


class Shown(FeatureFamily):
    """A family of another package."""

    @property
    def features(self):
        return (Feature("shown", "rows", "earlier rows of the item", "8 bytes per item"),)

    @property
    def needs(self):
        return Needs(("item",))

    def values(self, past):
        return [past.counts("item").count.astype(np.float32)]


def test_every_family_of_ours_is_on():
    assert sorted(DEFAULT_FAMILIES) == FEATURES.builtin_names


def test_every_feature_says_what_it_is():
    for feature in FeaturePlan(DEFAULT_FAMILIES, INPUTS).features:
        assert all((feature.name, feature.unit, feature.meaning, feature.memory))


def test_names_keep_their_order():
    plan = FeaturePlan(("ages", "popularity"), INPUTS)
    assert plan.names == ("item_age", "item_idle", "log_popularity")
    assert plan.needs == Needs(("item",))


def test_an_unknown_family_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'sesion' is unknown.*did you mean 'session'"):
        FeaturePlan(("sesion",), INPUTS)


def test_a_feature_is_given_once():
    with pytest.raises(ConfigError, match=r"twice.*features"):
        FeaturePlan(("ages", "ages"), INPUTS)


def test_what_a_file_keeps_makes_the_same_plan():
    plan = FeaturePlan((*DEFAULT_FAMILIES, f"{__name__}:Shown"), INPUTS)
    kept = plan.described
    assert kept.families == (*DEFAULT_FAMILIES, f"{__name__}:Shown")
    again = FeaturePlan.recorded(kept, {"genre": GENRES, "author": GENRES})
    assert again.names == plan.names
    assert "shown" in again.names


def test_categories_that_are_missing_are_named():
    kept = FeaturePlan(("user_categories",), INPUTS).described
    with pytest.raises(ConfigError, match=r"\['genre'\].*items"):
        FeaturePlan.recorded(kept, {})


def test_features_of_linked_models_are_explained_too():
    linked = [
        "transition_last", "transition_recent", "genre_affinity",
        *(f"{name}_{kind}" for name in CHANNELS.builtin_names for kind in ("score", "rank")),
    ]  # fmt: skip
    plan = FeaturePlan(DEFAULT_FAMILIES, INPUTS)
    found = feature_meanings(plan.described, [*plan.names, *linked, "of_mine", "_affinity"])
    assert set(found) == {*plan.names, *linked}
    assert all(found.values())
    assert "the genre of the item" in found["genre_affinity"]
    assert set(feature_meanings(None, linked)) == set(linked)


def test_code_that_a_table_names_is_not_loaded_to_describe_it(tmp_path, monkeypatch):
    (tmp_path / "strange_code.py").write_text("raise SystemExit('this ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    kept = FeaturePlan(("popularity",), INPUTS).described
    mixed = kept.model_copy(update={"families": ("strange_code:Family", *kept.families)})
    assert feature_meanings(mixed) == feature_meanings(kept) != {}
