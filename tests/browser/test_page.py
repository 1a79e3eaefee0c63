"""The page in a real browser: mouse, keyboard alone, narrow, light and dark, with a key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")

from tests.browser.conftest import Open
from tests.browser.kit import KEY, make_bundles, site

SENT = re.compile(r"^Send ")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def url(
    browser: object, bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server; after the browser, so that nothing starts where there is none."""
    with site(tmp_path_factory.mktemp("site"), *bundles) as address:
        yield address


def names(page, side: str) -> list[str]:
    return page.locator(f".side-{side} .slot .name").all_inner_texts()


def test_choose_a_user_and_see_two_lists(visit: Open, url: str):
    page = visit(url).page
    assert len(names(page, "a")) == len(names(page, "b")) == 4
    for side in "ab":
        assert all(re.fullmatch(r"Item \d+", name) for name in names(page, side))
        shares = page.locator(f".side-{side} .slot .p").all_inner_texts()
        assert len(shares) == 4
        assert all("%" in share for share in shares)
    people = httpx.get(f"{url}/v1/page/users").json()["users"]
    page.get_by_role("combobox", name="User").fill(people[3]["user"])
    page.locator(".combo [role=option]").first.click()
    wanted = httpx.get(f"{url}/v1/page/request", params={"user": people[3]["user"]}).json()
    page.locator(
        "#candidates .count", has_text=str(len(wanted["request"]["candidates"]))
    ).wait_for()
    asked = {"request": wanted["request"], "sides": [{"variant": "default", "request_id": "t"}]}
    items = httpx.post(f"{url}/v1/page/compare", json=asked).json()["lists"][0]["items"]
    page.locator(".side-a .slot .name", has_text=f"Item {items[0]}").first.wait_for()
    assert names(page, "a") == [f"Item {item}" for item in items]


def test_feedback_is_stored_and_shown(visit: Open, url: str):
    page = visit(url).page
    with page.expect_response("**/v1/feedback") as taken:
        page.locator(".side-a").get_by_role("button", name=SENT).nth(1).click()
    assert taken.value.json() == {"stored": 1, "duplicates": 0, "replaced": 0}
    page.locator(".side-a .slot").nth(1).get_by_text("✓ click 1 stored").wait_for()
    assert "1 answer" in page.locator(".side-a .stored").inner_text()
    assert page.locator(".side-b .tag.kept").count() == 0
    with page.expect_response("**/v1/feedback") as taken:
        page.locator(".side-a").get_by_role("button", name=SENT).nth(1).click()
    assert taken.value.json()["duplicates"] == 1
    page.locator("#live", has_text="click 1 for").wait_for(state="attached")


def test_keyboard_alone(visit: Open, url: str):
    page = visit(url).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the lists"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "combobox"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) != "none"
    before = page.get_by_role("combobox", name="User").input_value()
    page.keyboard.press("Backspace")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".combo [role=option]")
    page.keyboard.press("ArrowDown")
    with page.expect_response("**/v1/page/compare"):
        page.keyboard.press("Enter")
    assert page.get_by_role("combobox", name="User").input_value() not in ("", before)
    page.wait_for_selector("#pair:not([aria-busy]) .side-b .slot")
    for _ in range(60):
        page.keyboard.press("Tab")
        assert page.evaluate(outline) != "none", page.evaluate("document.activeElement.outerHTML")
        label = page.evaluate("document.activeElement.getAttribute('aria-label') || ''")
        if SENT.match(label):
            break
    else:
        pytest.fail("sixty tabs do not reach a feedback button")
    page.keyboard.press("Enter")
    page.wait_for_selector(".tag.kept")
    kept = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert kept == label, "the focus was lost when the list was drawn again"


def test_rules_say_what_they_changed(visit: Open, url: str):
    page = visit(url).page
    first = names(page, "a")[0]
    page.locator("#candidates summary").click()
    page.get_by_role("button", name=f"Block {first}", exact=True).click()
    page.locator(".side-a .effect.changed", has_text="Blocked").wait_for()
    assert first not in names(page, "a")
    assert first not in names(page, "b")
    assert first in page.locator(".side-a .effect dd").all_inner_texts()[1]
    page.locator("#rules summary").click()
    page.get_by_role("button", name=re.compile("^Remove rule")).click()
    page.locator(".effects").first.wait_for(state="detached")
    assert names(page, "a")[0] == first


def test_a_drawn_list_can_be_drawn_again(visit: Open, url: str):
    page = visit(url).page
    page.get_by_label("How list B is chosen").select_option("2")
    again = page.locator(".side-b").get_by_role("button", name="Draw again")
    seen = set()
    for _ in range(8):
        with page.expect_response("**/v1/page/compare"):
            again.click()
        page.wait_for_selector("#pair:not([aria-busy])")
        seen.add(tuple(names(page, "b")))
    assert len(seen) > 1


def test_experiments_show_the_report(visit: Open, url: str):
    page = visit(url).page
    page.locator(".experiment .chart svg").nth(2).wait_for()
    wanted = httpx.get(f"{url}/v1/page/experiments").json()["experiments"][0]
    assert sum(wanted["units"].values()) == 420
    label = page.locator(".chart svg").first.get_attribute("aria-label")
    for arm, count in wanted["report"]["units"].items():
        assert f"{arm} {count}" in label
    page.get_by_text("All numbers").click()
    rows = page.locator(".experiment tbody tr")
    assert rows.count() == len(wanted["report"]["effects"])
    lift = wanted["report"]["effects"][0]["lift"]
    assert f"{abs(100 * lift):.1f} %" in rows.first.inner_text()
    assert "sizes fit" in page.locator(".experiment header").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_scrolls_one_way(visit: Open, url: str, scheme: str):
    page = visit(url, 380, 800, scheme=scheme).page
    page.locator(".experiment .chart svg").nth(2).wait_for()
    for each in page.locator("summary").all():
        each.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", paper)[:3])) > 380
    assert light == (scheme == "light")


def test_every_control_has_a_name_and_every_id_is_one(visit: Open, url: str):
    page = visit(url).page
    for each in page.locator("summary").all():
        each.click()
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, select, input, meter, [role=img]")].filter((e) =>
          !e.closest("dialog") && e.getAttribute("aria-hidden") !== "true" &&
          !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim())
        ).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_a_key_is_asked_for_and_kept_in_memory_only(
    visit: Open, bundles: tuple[Path, Path], tmp_path: Path
):
    with site(tmp_path, bundles[0], key=KEY) as guarded:
        # The browser itself writes refused answers to the console.
        page = visit(guarded, ready=False, forgiving=True).page
        field = page.get_by_label("Key", exact=True)
        field.wait_for()
        assert page.locator(".slot").count() == 0
        field.fill("not-the-right-key")
        field.press("Enter")
        page.get_by_text("does not take this key").wait_for()
        field.fill(KEY)
        field.press("Enter")
        page.wait_for_selector(".side-b .slot")
        page.wait_for_selector("dialog", state="hidden")
        places = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
        assert KEY not in page.evaluate(places)
        assert KEY not in page.content()
        page.reload()
        field.wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Without a key").wait_for()


def test_without_examples_one_types_a_request(
    visit: Open, bundles: tuple[Path, Path], tmp_path: Path
):
    with site(tmp_path, bundles[1], store=False) as bare:
        page = visit(bare, ready=False).page
        page.get_by_text("Choose a user").first.wait_for()
        assert "keeps no store" in page.locator("#store-note").inner_text()
        user = page.get_by_role("combobox", name="User")
        user.fill("7")
        user.press("Enter")
        page.locator("#candidates summary").click()
        box = page.get_by_role("combobox", name="Add a candidate")
        for count, item in enumerate(("11", "12", "13", "999"), 1):
            box.fill(item)
            page.get_by_role("option", name=re.compile(rf"^Item {item}\b")).click()
            page.locator("#candidates .count", has_text=str(count)).wait_for()
        page.locator(".side-a .slot").nth(3).wait_for()
        assert sorted(names(page, "a")) == ["Item 11", "Item 12", "Item 13", "Item 999"]
        assert page.get_by_role("button", name=SENT).count() == 0


def test_screenshots(
    browser: object,
    visit: Open,
    bundles: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
    images: Path,
):
    """Of real bundles where GOALRANK_PAGE_BUNDLES names two (parted by a comma)."""
    given = os.environ.get("GOALRANK_PAGE_BUNDLES")
    pair = [Path(each) for each in given.split(",")] if given else list(bundles)
    with site(tmp_path_factory.mktemp("shots"), *pair) as address:
        for name, width, height, scheme in (
            ("page-light", 1380, 1000, "light"),
            ("page-dark", 1380, 1000, "dark"),
            ("page-narrow", 380, 844, "light"),
        ):
            page = visit(address, width, height, scheme=scheme).page
            page.locator(".experiment .chart svg").nth(2).wait_for()
            if name == "page-light":
                _use(page)
            page.evaluate("scrollTo(0, 0)")
            if name == "page-narrow":
                page.evaluate("document.getElementById('lists').scrollIntoView()")
            file = images / f"{name}.png"
            page.screenshot(path=file, full_page=name != "page-narrow", animations="disabled")
            assert file.stat().st_size > 20_000


def _use(page) -> None:
    """A rule and an answer, so that there is something to see."""
    page.locator("#candidates summary").click()
    page.get_by_role("button", name=re.compile("^Pin ")).nth(5).click()
    page.locator(".side-b .effect").first.wait_for()
    page.locator(".side-a").get_by_role("button", name=SENT).first.click()
    page.locator(".tag.kept").first.wait_for()
    page.evaluate("document.activeElement.blur()")
