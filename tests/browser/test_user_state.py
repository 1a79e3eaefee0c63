"""A user's state and the model's versions on the page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("implicit")

from goalrank import fit, load
from goalrank.logs import import_dataset, read_log
from goalrank.models import ModelRegistry, Reason
from goalrank.serving import ServeSettings, build_app, replay_log
from tests.browser.conftest import Open, Visit
from tests.browser.kit import make_bundles, running, site
from tests.logs.logs_data import movielens_folder

OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 12, "stride": 5, "history": 20}
LINEAR = {"ranker.name": "linear", "objective.name": "supervised", "light": []}
REASONS = {True: "no loss", False: "the audit's baseline is better", None: "no reward model"}
USER = 3


@pytest.fixture(scope="module")
def url(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with state, whose champion is the second of two versions."""
    folder = tmp_path_factory.mktemp("known")
    path, store = movielens_folder(folder / "log"), f"sqlite:///{folder / 's.db'}"
    import_dataset("movielens", path, OPTIONS, out=folder / "data")
    fit(folder / "data" / "train.parquet", overrides=LINEAR, out=folder / "run", progress=False)
    bundle, registry = load(folder / "run"), ModelRegistry(folder / "models")
    checks = [Reason(check=f"check {p}", passed=p, said=said) for p, said in REASONS.items()]
    registry.add(bundle, reasons=checks, accepted=False)
    registry.add(bundle, reasons=checks[::2], accepted=True)
    registry.promote(2, reason="the gate passed")
    replay_log(read_log("movielens", path, OPTIONS), bundle, store)
    served = {"models": folder / "models", "state": folder / "state", "store": store}
    settings = ServeSettings.model_validate({**served, "deadline": 30})
    with running(build_app(settings)) as address:
        yield address


def choose(visited: Visit, user: int) -> None:
    page = visited.page
    field = page.get_by_role("combobox", name="User")
    field.fill(str(user))
    field.press("Enter")
    page.locator("#known-controls", has_text=f"User {user}").wait_for()


def cells(visited: Visit, table: str) -> list[list[str]]:
    rows = visited.page.locator(f"#known table.{table} tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def test_a_users_state(visit: Open, url: str):
    seen = visit(url, ready=False)
    choose(seen, USER)
    asked = httpx.post(f"{url}/v1/page/state", json={"user_id": USER}).json()
    known = httpx.get(f"{url}/v1/users/{USER}").json()
    facts = seen.page.locator("#known dl").inner_text()
    assert f"events of this user\n{known['events']}" in re.sub(r"\s*\n\s*", "\n", facts)
    assert re.search(r"\d+ years since anybody", facts)
    events = cells(seen, "told")
    assert len(events) == min(known["events"], 30)
    assert f"Item {known['history'][-1]}" == events[0][0]
    assert "rating" in events[0][2]
    history = seen.page.locator("#known details .count").inner_text()
    assert int(history) == len(known["history"])
    names = [feature["name"] for feature in asked["features"]]
    ranges = cells(seen, "ranges")
    assert [row[0] for row in ranges] == names != []
    age = names.index("item_age")  # the log is of years ago
    assert asked["features"][age]["outside"] == 1
    assert ranges[age][-1] == "100 %"
    assert seen.page.locator("#known table.ranges tr", has_text="item_age").locator(".out").count()
    first = [row[1] for row in ranges]
    seen.page.get_by_label("Candidate", exact=True).select_option("1")
    assert [row[1] for row in cells(seen, "ranges")] != first


def test_an_event_is_seen(visit: Open, url: str):
    seen = visit(url, ready=False)
    choose(seen, 987)
    assert "unknown to the state" in seen.page.locator("#known dl").inner_text()
    assert cells(seen, "told") == []
    event = {"type": "interaction", "user_id": 987, "item_id": 100, "values": {"rating": 4}}
    assert httpx.post(f"{url}/v1/events", json={"events": [event]}).status_code == 200
    with seen.page.expect_response("**/v1/page/state"):
        seen.page.locator("#known").get_by_role("button", name="Refresh").click()
    newest = seen.page.locator("#known table.told tbody tr").first
    newest.get_by_text("rating 4", exact=True).wait_for()
    assert len(cells(seen, "told")) == 1
    assert re.search(r"\d+ s since anybody", seen.page.locator("#known dl").inner_text())


def test_retrieved_candidates_are_ranked(visit: Open, url: str):
    seen = visit(url, ready=False)
    choose(seen, USER)
    assert seen.page.locator(".slot").count() == 0
    seen.page.get_by_role("button", name="Rank these").click()
    seen.page.locator(".side-a .slot").nth(3).wait_for()
    wanted = httpx.post(f"{url}/v1/recommend", json={"user_id": USER}).json()["items"]
    shown = seen.page.locator(".side-a .slot .name").all_inner_texts()
    assert shown == [f"Item {item}" for item in wanted]


def test_versions_and_their_gate(visit: Open, url: str):
    page = visit(url, ready=False).page
    page.locator("#model-controls", has_text="Version 2 serves").wait_for()
    summaries = page.locator("#model summary").all_inner_texts()
    assert [re.findall(r"Version \d", each) for each in summaries] == [["Version 2"], ["Version 1"]]
    assert "the gate refused it: check False" in summaries[1]
    page.locator("#model summary").nth(1).click()
    for said in REASONS.values():
        page.locator("#model").get_by_text(said).last.wait_for()
    assert "the gate passed" in page.locator("#model .stack").last.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_scrolls_one_way(visit: Open, url: str, scheme: str, tmp_path: Path):
    seen = visit(url, 380, 800, scheme=scheme, ready=False)
    choose(seen, USER)
    for each in seen.page.locator("summary").all():
        each.click()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 380
    ink, paper = (
        sum(map(int, re.findall(r"\d+", seen.page.evaluate(script))[:3]))
        for script in (
            "getComputedStyle(document.querySelector('#known td')).color",
            "getComputedStyle(document.querySelector('#known')).backgroundColor",
        )
    )
    assert abs(ink - paper) > 450
    assert (paper > ink) == (scheme == "light")


def test_a_server_without_state_shows_neither(visit: Open, tmp_path: Path):
    with site(tmp_path, make_bundles(tmp_path)[0], store=False) as plain:
        page = visit(plain).page
        assert not page.locator("#known").is_visible()
        assert not page.locator("#model").is_visible()
        answer = httpx.post(f"{plain}/v1/page/state", json={"user_id": 1})
    assert answer.status_code == 422
    assert "option: state" in answer.json()["error"]["message"]
