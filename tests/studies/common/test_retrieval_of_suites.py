"""On every retrieved data set of the arena the blend of channels is no worse than the best of them.

    GOALRANK_DATA=… python -m pytest -m slow -s tests/studies/common/test_retrieval_of_suites.py

prints the recall of each channel and of the blend, and their difference on validation and test.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goalrank.logs import data_root, import_log
from goalrank.studies.common import DatasetSpec, dataset_path, load_suite
from goalrank.studies.common.suite import import_options

SUITES = Path(__file__).parents[3] / "configs" / "suites"
EXTRA = [
    DatasetSpec(name=path, source=source, path=path, protocol="retrieved")
    for source, path in (
        ("movielens", "ml-1m"), ("movielens", "ml-latest-small"), ("kuairand", "kuairand-pure"),
        ("amazon", "amazon2014-book-1M"),
    )
]  # fmt: skip


def retrieved() -> dict[str, DatasetSpec]:
    """Retrieved data sets of all suites, and those with default options, each import once."""
    found: dict[str, tuple[str, DatasetSpec]] = {}
    suites = [load_suite(path) for path in sorted(SUITES.glob("*.toml"))]
    named = [(suite.name, each) for suite in suites for each in suite.datasets]
    for name, each in [*named, *(("defaults", each) for each in EXTRA)]:
        if each.protocol == "retrieved":
            key = json.dumps([each.source, each.path, import_options(each)], sort_keys=True)
            found.setdefault(key, (f"{name}: {each.name}", each))
    return dict(found.values())


SETS = retrieved()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SETS)
def test_the_blend_is_not_below_the_best_channel(name):
    dataset = SETS[name]
    if data_root() is None:
        pytest.skip("GOALRANK_DATA names no folder")
    result = import_log(dataset.source, dataset_path(dataset), import_options(dataset))
    recall = result.report["recall"]
    print(f"\n{name}, shares at the end {recall['shares']}")
    for part in ("validation", "test"):
        gain = recall["gain"][part]
        each = ", ".join(f"{channel} {value:.4f}" for channel, value in recall[part].items())
        print(
            f"  {part}, {gain['requests']:,} requests: recall@{recall['at']} {each}; blend − "
            f"{gain['channel']} {gain['gain']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
        )
    assert recall["gain"]["validation"]["high"] >= 0
