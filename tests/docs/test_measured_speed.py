"""Pages that repeat figures of results/bench.json, in words or in a plan made of them."""

from __future__ import annotations

import json

import pytest

from tests.docs.runner import ROOT

SECTIONS = json.loads((ROOT / "results" / "bench.json").read_text(encoding="utf-8"))["sections"]
ROWS = {row["name"]: row for rows in SECTIONS.values() for row in rows}
IMPORT = ROWS["import, exponent over rows 100,000 … 10,000,000"]["absolute"]


def _medians(name: str, *keys: str) -> list[float]:
    return [ROWS[name]["absolute"][key] for key in keys]


def _plan() -> list[str]:
    """What the capacity plan takes from the measurements."""
    [single] = _medians("eager / ONNX, GoalRank's list, batch 1", "onnx")
    [batch] = _medians("greedy decode / PRM pass, batch 256", "goalrank")
    [step] = _medians("GoalRank step / PRM step, B 64, history 20", "goalrank")
    rows = [
        f"10{power} rows in {IMPORT[f'{count} rows s']:{digits}} s and "
        f"{IMPORT[f'{count} rows peak MB'] / 1000:.1f} GB"
        for power, count, digits in (("⁶", "1,000,000", ".1f"), ("⁷", "10,000,000", ".0f"))
    ]
    return [
        f"ONNX, one request {single:.2f} ms",
        f"batches of 256, {batch:.1f} ms / 256 = {batch / 256:.2f} ms",
        f"exponent of {ROWS['exponent: training step over d']['value']:.2f} over D",
        f"Measured: {64_000 / step:.0f} requests/s a core",
        *rows,
    ]


def _results() -> list[str]:
    """What the page of results says of speed."""
    small, large = (ROWS[f"authors' step / GoalRank step, B {b}"]["value"] for b in (16, 64))
    seconds = ROWS["ML-1M raw → requests, seconds"]["value"]
    peak = ROWS["ML-1M raw → requests, peak GB"]["value"]
    return [
        f"a training step is {small:.0f} and {large:.0f} times as fast",
        f"raw ratings become requests in {seconds:.1f} s within {peak:.1f} GB",
    ]


@pytest.mark.parametrize(("page", "said"), [("scale.md", _plan()), ("results.md", _results())])
def test_a_page_says_what_was_measured(page, said):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [each for each in said if each not in text] == []
