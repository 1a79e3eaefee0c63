"""Named sizes of the generator."""

from __future__ import annotations

import itertools

import pytest
import torch

from goalrank.rankers import PRESETS, RankerConfig, build_ranker, parameter_count
from tests.rankers.kit import rich_columns, spec_of


def test_presets_span_ten_thousand_to_a_billion_parameters():
    spec = spec_of(rich_columns())
    counts = []
    for preset in PRESETS:
        with torch.device("meta"):
            counts.append(parameter_count(build_ranker(spec, RankerConfig(preset=preset))))
    assert counts == sorted(counts)
    assert counts[0] == pytest.approx(1e4, rel=0.5)
    assert counts[-1] == pytest.approx(1e9, rel=0.5)
    steps = [larger / smaller for smaller, larger in itertools.pairwise(counts)]
    assert max(steps) < 30


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="did you mean 'xxl'"):
        RankerConfig(preset="xxxl")
