"""The page in a real browser: mouse, keyboard alone, narrow, light and dark, with a key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

pytest.importorskip("fastapi")

from goalrank.requests import Requests
from tests.browser.conftest import Open
from tests.browser.kit import KEY, make_bundles, site
from tests.tables import make_table

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


def focused(page) -> str:
    return page.evaluate(
        "document.activeElement.getAttribute('aria-label') || document.activeElement.tagName"
    )


def test_the_focus_stays_in_place_when_a_chip_is_removed(visit: Open, url: str):
    page = visit(url).page
    people = [each["user"] for each in httpx.get(f"{url}/v1/page/users").json()["users"]]
    asked = (httpx.get(f"{url}/v1/page/request", params={"user": user}).json() for user in people)
    known = next(
        user
        for user, found in zip(people, asked)
        if len(set(found["request"]["history"])) == len(found["request"]["history"]) > 4
    )
    page.get_by_role("combobox", name="User").fill(known)
    page.locator("#user [role=option]").first.click()
    chips = page.get_by_role("button", name=re.compile("^Remove .* from the history$"))
    chips.nth(4).wait_for()
    page.wait_for_selector("#pair:not([aria-busy]) .side-b .slot")
    names_ = chips.evaluate_all("all => all.map((e) => e.getAttribute('aria-label'))")
    for at in (0, 1):
        wanted = names_[at + 1]
        chips.nth(at).focus()
        with page.expect_response("**/v1/page/compare"):
            page.keyboard.press("Enter")
        page.wait_for_selector("#pair:not([aria-busy])")
        assert focused(page) == wanted
        assert chips.nth(at).evaluate("(e) => e === document.activeElement")
        names_.pop(at)
    page.locator("#candidates summary").click()
    drops = page.get_by_role("button", name=re.compile("^Remove .* from the candidates$"))
    wanted = drops.nth(1).get_attribute("aria-label")
    drops.first.focus()
    with page.expect_response("**/v1/page/compare"):
        page.keyboard.press("Enter")
    page.wait_for_selector("#pair:not([aria-busy])")
    assert focused(page) != "BODY"
    page.locator("#candidates").get_by_role("button", name=re.compile("^Block ")).first.click()
    page.locator("#rules summary").click()
    page.get_by_role("button", name=re.compile("^Remove rule")).focus()
    with page.expect_response("**/v1/page/compare"):
        page.keyboard.press("Enter")
    page.wait_for_selector("#pair:not([aria-busy])")
    assert focused(page) != "BODY"
    assert page.evaluate("document.activeElement.closest('#rules') !== null")


def test_a_search_says_whether_it_failed_or_found_nothing(visit: Open, url: str):
    page = visit(url, forgiving=True).page
    page.locator("#candidates summary").click()
    box = page.get_by_role("combobox", name="Add a candidate")
    line = page.locator("#candidates [role=listbox] .none")
    box.click()
    line.get_by_text("Type a title or an id").wait_for()
    box.fill("no such title")
    line.get_by_text("Nothing found for “no such title”").wait_for()
    page.route("**/v1/page/items*", lambda route: route.abort())
    box.fill("another")
    line.get_by_text("The search failed: The server does not answer.").wait_for()
    page.locator("#live", has_text="The search failed").wait_for(state="attached")


def test_a_slow_line_is_said(visit: Open, url: str):
    held: list[Any] = []
    page = visit(url).page
    page.route("**/v1/page/compare", lambda route: held.append(route))
    page.get_by_label("How list B is chosen").select_option("2")
    page.locator("#waiting").wait_for()
    for route in held:
        route.continue_()
    page.wait_for_selector("#pair:not([aria-busy])")
    assert page.locator("#waiting").is_hidden()
    page.route("**/v1/page/users*", lambda route: None)
    page.get_by_role("combobox", name="User").fill("1")
    page.locator("#user [role=listbox] .none", has_text="Searching …").wait_for()
    page.unroute_all(behavior="ignoreErrors")


def test_the_page_says_that_it_loads(browser: object, visit: Open, url: str):
    text = httpx.get(url).text
    assert re.search(r'id="pair"><p [^>]*id="loading"[^>]*>Loading …</p>', text)
    assert visit(url).page.locator("#loading").count() == 0


def test_a_click_into_the_user_field_offers_all_users(visit: Open, url: str):
    page = visit(url).page
    page.get_by_role("combobox", name="User").click()
    page.locator("#user [role=option]").nth(3).wait_for()


def test_bars_are_as_long_as_their_percentages_and_as_high_as_their_frame(visit: Open, url: str):
    page = visit(url).page
    drawn = page.locator(".side-a .level").evaluate_all(
        """all => all.map((e) => [e.firstChild, e].map((b) => b.getBoundingClientRect()))
             .map(([inner, outer]) => [inner.width / outer.width, inner.height / outer.height])"""
    )
    told = page.locator(".side-a .slot .p").all_inner_texts()
    assert len(drawn) == len(told) == 4
    for (width, height), text in zip(drawn, told, strict=True):
        (share,) = re.findall(r"([\d.]+) %", text)
        assert width == pytest.approx(float(share) / 100, abs=0.02)
        assert height == pytest.approx(1.0)


def test_the_unit_of_the_percentages_is_said(visit: Open, url: str):
    page = visit(url).page
    said = page.locator(".side-a .unit").inner_text()
    assert said.startswith("% = the model’s probability of the item in its slot, given those above")
    page.get_by_label("Variant B").select_option("retriever")
    page.locator(".side-b .slot .p.none").first.wait_for(state="attached")
    assert page.locator(".side-b .unit").count() == 0  # no percentages, no unit


def test_probabilities_of_items_are_not_taken_for_the_propensity(visit: Open, url: str):
    page = visit(url).page
    facts = page.locator(".side-a .facts")
    assert re.search(r"propensity\s*1 \(always this list\)", facts.inner_text())
    assert (
        "Not the propensity: the best list is always shown"
        in page.locator(".side-a .unit").inner_text()
    )
    shown = page.locator(".side-a .slot .p").first
    assert "Not the propensity" in shown.get_attribute("title")
    hint = page.locator(".side-a .facts .hint", has_text="propensity")
    assert "1 for the best list, which is not drawn" in hint.get_attribute("title")
    page.get_by_label("How list A is chosen").select_option("2")
    page.locator(".side-a .unit", has_text="at temperature 2").wait_for()
    assert "Their product is the propensity" in page.locator(".side-a .unit").inner_text()
    told = float(re.findall(r"propensity\s*(0\.\d+)", facts.inner_text())[0])
    product = 1.0
    for text in page.locator(".side-a .slot .p").all_inner_texts():
        product *= float(re.findall(r"([\d.]+) %", text)[0]) / 100
    assert told == pytest.approx(product, rel=0.1)
    page.locator("#legend summary").click()
    page.get_by_text("so its propensity is 1, whatever the percentages are").wait_for()
    with page.expect_response("**/v1/feedback"):
        page.locator(".side-b").get_by_role("button", name=SENT).first.click()
    page.locator(".side-b .stored", has_text="propensity 1 (always this list)").wait_for()


SHARES = """async ([units, weights, width]) => {
  const charts = await import("/page/charts.js");
  const frame = document.createElement("div");
  frame.style.width = `${width}px`;
  document.body.append(frame);
  frame.append(charts.shares(units, weights));
  while (!frame.querySelector("svg")) await new Promise(requestAnimationFrame);
  const [inside, tracks, bars, marks] = ["svg", ".track", "rect[class^=arm]", ".mark"].map((s) =>
    [...frame.querySelectorAll(s)].map((e) => e.getBoundingClientRect()));
  frame.remove();
  const parts = bars.map((bar, i) => bar.width / tracks[i].width);
  return { parts, cut: marks.filter((m) => m.left < inside[0].left - 1 || m.right > inside[0].right + 1).length };
}"""


@pytest.mark.parametrize(
    ("units", "parts"),
    [({"a": 5, "b": 0}, [1, 0]), ({"a": 1, "b": 3}, [0.25, 0.75]), ({"a": 0, "b": 0}, [0, 0])],
)
def test_bars_of_variants_are_as_long_as_their_shares(
    visit: Open, url: str, units: dict[str, int], parts: list[float]
):
    for weights in ({"a": 1, "b": 1}, {"a": 1, "b": 1e9}):
        found = visit(url).page.evaluate(SHARES, [units, weights, 380])
        assert found["parts"] == pytest.approx(parts, abs=0.002)
        assert found["cut"] == 0


AXIS = """async () => {
  const charts = await import("/page/charts.js");
  const frame = document.createElement("div");
  frame.style.width = "400px";
  document.body.append(frame);
  frame.append(charts.lines({ a: [["2026-01-01T00:00:00Z", 0]] }, ["a"]));
  while (!frame.querySelector("svg")) await new Promise(requestAnimationFrame);
  const texts = [...frame.querySelectorAll("text")].map((t) => t.textContent);
  frame.remove();
  return [texts, charts.signed(-0.0001), charts.signed(0.0123), charts.signed(-0.5)];
}"""


def test_nothing_is_written_as_next_to_nothing(visit: Open, url: str):
    texts, *signed = visit(url).page.evaluate(AXIS)
    assert texts[:3] == ["0", "0.5", "1"]
    assert signed == ["0.0 %", "+1.2 %", "−50.0 %"]
    code = "async (p) => (await import('/page/dom.js')).pValue(p)"
    page = visit(url).page
    assert [page.evaluate(code, p) for p in (0, 0.004, 1, None)] == [
        "< 0.001", "0.004", "1.000", "–",
    ]  # fmt: skip


def test_an_experiment_says_what_its_units_cannot_tell(visit: Open, url: str):
    def few(route: Any) -> None:
        answer = route.fetch()
        content = answer.json()
        content["experiments"][0]["report"]["notes"] = ["Too few users to conclude anything."]
        content["experiments"][0]["report"]["effects"][0] |= {"p_adjusted": 0.01, "low": -0.1}
        route.fulfill(response=answer, json=content)

    page = visit(url).page
    page.route("**/v1/page/experiments*", few)
    page.locator("#lab-controls").get_by_role("button", name="Refresh").click()
    page.get_by_text("Too few users to conclude anything.").wait_for()
    assert page.locator(".experiment .dot.hollow").count() >= 1


def test_long_titles_are_clamped_and_told_on_hover(
    visit: Open, bundles: tuple[Path, Path], tmp_path: Path
):
    long = "A title that goes on and on, " * 20 + "to its end"
    table = make_table(20, seed=3)
    assert table.items is not None
    items = table.items.with_columns(title=pl.lit(long))
    examples = Requests(table.frame, items=items, info=table.info)
    with site(tmp_path, bundles[0], examples=examples) as titled:
        page = visit(titled, 390, 844).page
        page.locator("#candidates summary").click()
        for shown in (".side-a .slot .name", "#candidates .name"):
            first = page.locator(shown).first
            assert first.get_attribute("title") == long
            box = first.bounding_box()
            assert box is not None
            assert box["height"] < 60
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


CHART = """async ([kind, width]) => {
  const charts = await import("/page/charts.js");
  const frame = document.createElement("div");
  frame.style.width = `${width}px`;
  document.body.append(frame);
  const long = "a-challenger-with-a-very-long-name";
  const names = ["champion", long];
  const times = ["2026-01-01T00:00:00Z", "2026-01-09T00:00:00Z"];
  const series = Object.fromEntries(names.map((n) => [n, times.map((t) => [t, 0.00123456])]));
  const effects = names.map((variant) => ({ metric: "minutes-watched-per-user-and-week", variant,
    lift: 0.011, low: -0.01, high: 0.03, p_adjusted: 0.4 }));
  const drawn = { lines: () => charts.lines(series, names), lifts: () => charts.lifts(effects, names),
    shares: () => charts.shares({ champion: 12345, [long]: 23456 }, { champion: 1, [long]: 1 }) };
  frame.append(drawn[kind]());
  while (!frame.querySelector("svg")) await new Promise(requestAnimationFrame);
  const inside = frame.querySelector("svg").getBoundingClientRect();
  const texts = [...frame.querySelectorAll("text")].map((t) => [t.firstChild.textContent, t.getBoundingClientRect()]);
  const cut = texts.filter(([, box]) => box.left < inside.left - 1 || box.right > inside.right + 1);
  const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
  const over = texts.filter(([, a], i) => texts.some(([, b], j) => i < j && !apart(a, b)));
  const whole = [...frame.querySelectorAll("text title")].map((t) => t.textContent);
  frame.remove();
  return { cut: cut.map(([t]) => t), over: over.map(([t]) => t), whole };
}"""


@pytest.mark.parametrize("width", [300, 700])
@pytest.mark.parametrize("kind", ["lines", "lifts", "shares"])
def test_labels_of_charts_are_not_cut(visit: Open, url: str, kind: str, width: int):
    found = visit(url).page.evaluate(CHART, [kind, width])
    assert found["cut"] == []
    assert found["over"] == []
    if width == 300:  # a shortened name is whole in its title
        assert any("a-challenger-with-a-very-long-name" in whole for whole in found["whole"])


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
