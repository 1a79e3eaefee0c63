"""The model registry: numbers, states, pointers that move in one step, and what a kill leaves."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.bundles import Bundle
from goalrank.errors import BundleError, ConfigError
from goalrank.models import History, ModelRegistry, Move, Reason, compare_versions
from goalrank.models import registry as module
from goalrank.serving import Service, create_app
from tests.bundles.kit import make_bundle
from tests.serving.live import Load, live

BUNDLE = make_bundle(reward=False)
NO = (Reason(check="ndcg", passed=False, said="ndcg fell by 0.2"),)


@pytest.fixture
def registry(tmp_path) -> ModelRegistry:
    """Three versions, none of them promoted; the third was turned down."""
    made = ModelRegistry(tmp_path / "models")
    made.add(BUNDLE)
    made.add(BUNDLE, key="same")
    made.add(BUNDLE, accepted=False, reasons=NO)
    return made


def states(registry: ModelRegistry) -> list[str]:
    return [version.state for version in registry.versions()]


def links(registry: ModelRegistry) -> dict[str, str]:
    return {
        name: (registry.folder / name).readlink().name
        for name in ("champion", "canary", "previous")
    }


def test_versions_are_numbered_and_found(registry):
    assert [version.number for version in registry.versions()] == [1, 2, 3]
    assert states(registry) == ["challenger", "challenger", "refused"]
    assert registry.champion is None
    found = registry.find("same")
    assert found is not None
    assert found.number == 2
    assert registry.find("other") is None
    assert registry.get("3").record.reasons == NO


def test_promotions_and_rollbacks_move_the_links(registry):
    registry.promote(1)
    assert links(registry) == {"champion": "0001", "canary": "0001", "previous": "0001"}
    registry.promote(2, pointer="canary")
    assert links(registry) == {"champion": "0001", "canary": "0002", "previous": "0001"}
    registry.promote(2, reason="the canary held")
    assert links(registry) == {"champion": "0002", "canary": "0002", "previous": "0001"}
    assert states(registry) == ["retired", "champion", "refused"]
    assert registry.rollback("it fell").number == 1
    assert links(registry) == {"champion": "0001", "canary": "0001", "previous": "0001"}
    assert states(registry) == ["champion", "retired", "refused"]
    assert [move.reason for move in registry.history().moves[-2:]] == ["the canary held", "it fell"]


def test_a_promotion_twice_is_one(registry):
    registry.promote(1)
    registry.promote("1")
    assert len(registry.history().moves) == 1


def test_what_cannot_be_promoted(registry):
    with pytest.raises(ConfigError, match=r"turned version 3 down \(ndcg fell by 0.2\).*--force"):
        registry.promote(3)
    with pytest.raises(ConfigError, match="champion first"):
        registry.promote(1, pointer="canary")
    with pytest.raises(ConfigError, match="no version '7'"):
        registry.promote(7)
    with pytest.raises(ConfigError, match="did you mean 'champion'"):
        registry.get("champoin")
    assert registry.promote(3, force=True).state == "champion"
    with pytest.raises(ConfigError, match="no champion before"):
        registry.rollback()


def test_a_damaged_bundle_is_not_promoted(registry):
    registry.promote(1)
    weights = registry.get(2).folder / "bundle" / "ranker.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="changed"):
        registry.promote(2)
    assert links(registry)["champion"] == "0001"
    assert registry.champion is not None
    assert registry.champion.number == 1


def test_a_killed_promotion_is_finished_by_the_next_change(registry, monkeypatch):
    registry.promote(1)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_link", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.promote(2)
    assert links(registry)["champion"] == "0001"
    registry.promote(2)  # it is the champion already; only its links are missing
    assert links(registry) == {"champion": "0002", "canary": "0002", "previous": "0001"}
    assert len(registry.history().moves) == 2


def test_a_killed_registration_leaves_no_version(registry, monkeypatch):
    def killed(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_policy", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.add(BUNDLE)
    assert [version.number for version in registry.versions()] == [1, 2, 3]


def test_a_full_disk_registers_nothing_and_says_so(registry, monkeypatch):
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_policy", full)
        with pytest.raises(BundleError, match=r"No space left.*remedy: free space on the disk"):
            registry.add(BUNDLE)
    places = sorted(place.name for place in (registry.folder / "versions").iterdir())
    assert places == ["0001", "0002", "0003"]
    assert registry.add(BUNDLE).number == 4


def test_registrations_at_once_get_numbers_of_their_own(registry):
    threads = [threading.Thread(target=registry.add, args=(BUNDLE,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [version.number for version in registry.versions()] == list(range(1, 8))


def test_a_bundle_on_disk_is_taken_byte_for_byte(registry, tmp_path):
    folder = BUNDLE.save(tmp_path / "runs" / "first" / "bundle")
    taken = registry.adopt(tmp_path / "runs" / "first", note="in use since spring")
    assert taken.record.start == "added"
    ours, theirs = (sorted(place.iterdir()) for place in (folder, taken.folder / "bundle"))
    assert [a.read_bytes() for a in ours] == [b.read_bytes() for b in theirs]
    with pytest.raises(BundleError, match="not a bundle"):
        registry.adopt(tmp_path)


def test_addresses_are_refused():
    with pytest.raises(ConfigError, match=r"s3://bucket/models.*option: models"):
        ModelRegistry("s3://bucket/models")


@pytest.mark.parametrize("text", ["{", '{"format": 1, "moves": [], "more": 1}', '{"format": 99}'])
def test_a_damaged_or_newer_history_is_refused(registry, text):
    (registry.folder / "history.json").write_text(text)
    with pytest.raises(BundleError, match=r"history.json.*remedy"):
        registry.versions()


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ([("rollback", "champion", 1)], r"move 1 \(rollback\) leaves no champion"),
        ([("promote", "canary", 1)], r"move 1 \(promote\) leaves no champion"),
    ],
)
def test_a_history_that_cannot_be_is_refused(registry, moves, said):
    now = "2026-11-01T00:00:00Z"
    written = [dict(zip(("kind", "pointer", "version"), move), time=now) for move in moves]
    (registry.folder / "history.json").write_text(json.dumps({"moves": written}))
    with pytest.raises(BundleError, match=said):
        registry.versions()


def test_copies_beside_the_versions(registry):
    """A copy under another name is no version; one under another number is said."""
    versions = registry.folder / "versions"
    shutil.copytree(versions / "0002", versions / "0002-backup")
    assert [each.number for each in registry.versions()] == [1, 2, 3]
    shutil.copytree(versions / "0002", versions / "0009")
    with pytest.raises(BundleError, match=r"0009' holds version 2; remedy"):
        registry.versions()


def test_a_champion_whose_folder_is_gone_is_said(registry):
    registry.promote(1)
    registry.promote(2)
    shutil.rmtree(registry.folder / "versions" / "0002")
    with pytest.raises(BundleError, match=r"champion is version 2, which is not in.*remedy"):
        registry.champion  # noqa: B018
    assert registry.promote(1).state == "champion"


def test_a_training_is_added_with_its_recipe_as_it_was_given(registry, tmp_path):
    BUNDLE.save(tmp_path / "first" / "bundle")
    path = tmp_path / "first" / "run" / "recipe.json"
    path.parent.mkdir()
    path.write_text('{"training": {"steps": 0}}')
    added = registry.adopt(tmp_path / "first")
    assert added.record.recipe == {"training": {"steps": 0}}
    assert registry.adopt(tmp_path / "first" / "bundle").record.recipe == {}
    path.write_text("{")
    with pytest.raises(BundleError, match=r"recipe\.json' is damaged"):
        registry.adopt(tmp_path / "first")
    assert len(registry.versions()) == 5


def test_what_differs_is_named(tmp_path):
    registry = ModelRegistry(tmp_path / "models")
    registry.add(make_bundle(slots=4, reward=False), settings={"seed": 0})
    registry.add(make_bundle(slots=3, reward=False), settings={"seed": 1})
    found = {change.name: (change.before, change.after) for change in
             compare_versions(registry.get(1), registry.get(2))}  # fmt: skip
    assert found == {"ranker.slots": (4, 3), "settings.seed": (0, 1)}
    assert compare_versions(registry.get(1), registry.get(1)) == []


MOVES = st.lists(st.sampled_from(["champion 1", "champion 2", "canary 1", "canary 2", "rollback"]))


@given(MOVES)
@settings(deadline=None)
def test_pointers_of_any_history(moves):
    """Against the plain story: a stack of champions, and a canary that every new champion ends."""
    stack: list[int] = []
    canary, history = 0, History()
    for text in moves:
        kind, _, number = text.partition(" ")
        if kind == "canary" and stack:
            canary = int(number)
            move = {"kind": "promote", "pointer": "canary", "version": canary}
        elif kind == "champion":
            stack.append(int(number))
            canary = stack[-1]
            move = {"kind": "promote", "version": canary}
        elif kind == "rollback" and len(stack) > 1:
            stack.pop()
            canary = stack[-1]
            move = {"kind": "rollback", "version": canary}
        else:
            continue
        made = Move.model_validate({"time": "2026-01-01T00:00:00Z", **move})
        history = History(moves=(*history.moves, made))
    if not stack:
        assert history.pointers == {}
        return
    wanted = {"champion": stack[-1], "canary": canary, "previous": stack[-2:][0]}
    assert history.pointers == wanted


def test_a_server_follows_a_promotion_and_a_rollback(tmp_path):
    registry = ModelRegistry(tmp_path / "models")
    one = registry.add(make_bundle(slots=4, reward=False))
    two = registry.add(make_bundle(slots=3, reward=False))
    registry.promote(1)
    service = Service(registry.pointer())
    try:
        served = lambda: service.predictors["default"].name  # noqa: E731
        assert served() == one.policy
        assert service.reload() == []
        registry.promote(2)
        assert service.reload() == ["default"]
        assert served() == two.policy
        registry.rollback()
        assert service.reload() == ["default"]
        assert served() == one.policy
    finally:
        service.close()


def test_a_bundle_loads_whole_while_the_champion_changes(tmp_path, monkeypatch):
    """A promotion between two files of a load must not mix two versions."""
    registry = ModelRegistry(tmp_path / "models")
    one = registry.add(make_bundle(slots=4, reward=False))
    registry.add(make_bundle(slots=3, reward=False))
    registry.promote(1)
    load = Bundle.load

    def promoted_meanwhile(folder: Path, **options: Any) -> Bundle:
        registry.promote(2)
        return load(folder, **options)

    monkeypatch.setattr(Bundle, "load", promoted_meanwhile)
    service = Service(registry.pointer())
    try:
        predictor = service.predictors["default"]
        assert (predictor.name, predictor.slots) == (one.policy, 4)
        assert service.reload() == ["default"]
    finally:
        service.close()


def test_lists_keep_coming_while_champions_change(tmp_path):
    registry = ModelRegistry(tmp_path / "models")
    slots = {registry.add(make_bundle(slots=n, reward=False)).policy: n for n in (3, 4)}
    registry.promote(1)
    body = {
        "candidates": [1, 2, 3, 4, 5, 6], "candidate_score": [0.0] * 6,
        "candidate_features": [[0.0, 0.0]] * 6, "history": [], "history_feedback": [],
        "history_time": [],
    }  # fmt: skip
    service = Service(registry.pointer(), deadline=30.0)
    with live(create_app(service, watch=0.05)) as url, Load(url, body) as load:
        for change in (lambda: registry.promote(2), registry.rollback) * 3:
            change()
            load.wait(20)
    served = [answer["policy"] for _, answer in load.answers]
    assert load.refused == {}
    assert set(served) == set(slots)
    assert all(len(a["items"]) == slots[a["policy"]] for _, a in load.answers)


def test_the_record_is_plain_json(registry):
    found = json.loads((registry.folder / "versions" / "0001" / "record.json").read_text())
    assert found["version"] == 1
    assert found["policy"].startswith("goalrank@")
    assert len(found["code"]["source"]) == 64
