"""A report in a real browser: one screen first, names explained to mouse and keyboard, no scrolling aside."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from goalrank.evaluation import Reason, audit, audit_baselines, evaluate
from goalrank.rankers import RandomOrder
from goalrank.reporting import Example, Move, Report, write_report
from tests.browser.conftest import Open
from tests.helpers import make_columns

LONG = "A film whose title goes on and on " * 6


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    columns = make_columns(80, 8, users=40)
    baselines = evaluate(audit_baselines(columns, ["a", "b"]), columns, slots=3, bootstrap=50)
    measured = evaluate({"prm": RandomOrder(5)}, columns, slots=3, bootstrap=50)
    titles = [LONG, *(f"Film {i}" for i in range(7))]
    reasons = [Reason("click_rate_of_the_last_seven_days", 0.62, 0.31, 4)] * 3
    examples = [
        Example(
            request=f"request {i}", candidates=titles, liked=[i % 2 == 0] * 8,
            choices={"prm": [0, 2, 3], "popularity": [3, 2, 1]},
            move=Move("prm", "popularity", 0, 6, 0, reasons),
        )
        for i in range(7)
    ]  # fmt: skip
    report = Report.of(
        "A report", measured, baselines, audit(measured, baselines),
        examples=examples, reward_model={"kinds": {"long_view_of_at_least_ten_seconds": {"auc": 0.7, "gain_over_constant": 0.1, "itemwise_auc": 0.7, "gain_over_itemwise": 0.0}}},
        meanings={reasons[0].feature: "clicks of late, over showings of late"},
    )  # fmt: skip
    path = write_report(report, tmp_path_factory.mktemp("report") / "report.html")
    return Path(path).as_uri()


def test_the_first_screen_holds_the_answer_and_five_examples(visit: Open, address: str):
    page = visit(address, 1380, 900, ready=False).page
    for shown in (".headline", ".diffs", ".move summary >> nth=4"):
        box = page.locator(shown).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900, shown
    assert page.locator(".first .move").count() == 5
    assert page.locator(".folds > details").first.bounding_box()["height"] < 60
    title = page.locator(".move .title").first
    assert title.get_attribute("title") == LONG
    assert title.bounding_box()["height"] < 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1380])
def test_nothing_reaches_beyond_the_screen(visit: Open, address: str, width: int, scheme: str):
    page = visit(address, width, 844, scheme=scheme, ready=False).page
    for each in page.locator(".first .term:visible").all():
        each.focus()
        tip = each.locator(".tip").bounding_box()
        assert tip is not None, each.inner_text()
        assert tip["x"] >= 0
        assert tip["x"] + tip["width"] <= width
    for each in page.locator("summary").all():
        each.evaluate("(e) => { e.parentElement.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Sentences beside a table that scrolls do not scroll along.
    beyond = page.evaluate(
        """(width) => [...document.querySelectorAll("p, caption, figcaption, dd, li")].filter((e) =>
          e.getBoundingClientRect().right > width).map((e) => e.textContent)""",
        width,
    )
    assert beyond == []


@pytest.mark.parametrize("width", [390, 1380])
def test_numbers_of_the_axis_are_whole_and_apart(visit: Open, address: str, width: int):
    page = visit(address, width, 844, ready=False).page
    boxes = [
        each.bounding_box()
        for each in page.locator(".ticks .axis > span").all()
        if each.is_visible()
    ]
    assert len(boxes) >= 2
    for left, right in pairwise(boxes):
        assert left["x"] + left["width"] + 2 < right["x"]
    assert boxes[0]["x"] >= 0
    assert boxes[-1]["x"] + boxes[-1]["width"] <= width
    zero = page.locator(".ticks .axis > span", has_text=re.compile(r"^0$")).bounding_box()
    line = page.locator(".axis .zero").first.bounding_box()
    assert abs(zero["x"] + zero["width"] / 2 - line["x"]) < 2


@pytest.mark.parametrize(("width", "shown"), [(390, "ndcg@3"), (1380, "ms/request")])
def test_the_table_of_all_rankers_shows_what_matters(
    visit: Open, address: str, width: int, shown: str
):
    page = visit(address, width, 844, ready=False).page
    page.locator("#comparison").click()
    region = page.locator(".scroll:has(.ranking)").first.bounding_box()
    for name in ("ranker", shown):
        head = page.locator(".ranking thead th", has_text=name).first.bounding_box()
        assert head is not None, name
        assert head["x"] >= region["x"], name
        assert head["x"] + head["width"] <= region["x"] + region["width"] + 1, name


def test_names_are_explained_on_hover_and_by_keyboard(visit: Open, address: str):
    page = visit(address, ready=False).page
    assert page.locator(".tip:visible").count() == 0
    page.keyboard.press("Tab")
    tip = page.locator(".tip:visible")
    assert tip.count() == 1
    term = page.locator(".term:focus")
    described = term.get_attribute("aria-describedby")
    assert page.locator(f"#{described}").text_content() == tip.inner_text()
    page.locator(".diffs .term", has_text="prm").hover()
    page.get_by_text("A transformer that scores each candidate").first.wait_for()
