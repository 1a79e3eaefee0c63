"""Bodies that the model reads itself: every answer is the one that the framework would give."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

import goalrank.serving.http.app as app_module
from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import create_app
from goalrank.serving.http.guarded_routes import guarded_route
from goalrank.serving.ranking.service import Service
from tests.bundles.kit import make_bundle
from tests.serving.http.test_app import KEY, body

RIGHT = {"Authorization": f"Bearer {KEY}"}
_TIME = '"2024-01-01T00:00:00Z"'


def _with(**changes: str) -> bytes:
    """A good body with some values written as given."""
    good = body(
        request_id="r", candidates=[3, 4, 5, 6, 7], candidate_score=[5, 4, 3, 2, 1],
        candidate_features=[[0, 1]] * 5, history=[], history_feedback=None, history_time=None,
    )  # fmt: skip
    written = {name: json.dumps(value) for name, value in good.items()} | changes
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in written.items()) + "}").encode()


_GOOD = _with()
BODIES = {
    "good": _GOOD,
    "with spaces": b" \n\t" + _GOOD + b"\r\n ",
    "time with an offset": _with(time='"2024-01-01T01:00:00.5+01:00"'),
    "time with a name": _with(time='"2024-01-01 00:00:00 UTC"'),
    "time without a zone": _with(time='"2024-01-01T00:00:00"'),
    "time as a number": _with(time="1704067200"),
    "time as a number in text": _with(time='"1704067200"'),
    "time of 1960": _with(time='"1960-01-01T00:00:00Z"'),
    "an id twice": _with(candidates="[3, 3, 4, 5, 6]"),
    "an id as a float": _with(candidates="[3.0, 4, 5, 6, 7]"),
    "an id as text": _with(candidates='["3", 4, 5, 6, 7]'),
    "an id as a boolean": _with(user_id="true"),
    "an id of 2^63": _with(user_id=str(2**63)),
    "an id of 2^63 - 1": _with(user_id=str(2**63 - 1)),
    "an id of 5,000 digits": _with(user_id="9" * 5_000),
    "an id with an exponent": _with(user_id="1e3"),
    "a user as text": _with(user_id='"7"'),
    "half of a surrogate pair": _with(user_id='"\\ud800"'),
    "a surrogate pair": _with(request_id='"\\ud83d\\ude00"'),
    "scores as integers": _with(candidate_score="[1, 2, 3, 4, 5]"),
    "a score as text": _with(candidate_score='["1", 2, 3, 4, 5]'),
    "a score of NaN": _with(candidate_score="[NaN, 2, 3, 4, 5]"),
    "a score without end": _with(candidate_score="[Infinity, 2, 3, 4, 5]"),
    "a score beyond float32": _with(candidate_score="[1e300, 2, 3, 4, 5]"),
    "a score beyond float64": _with(candidate_score="[1e400, 2, 3, 4, 5]"),
    "a score of -0.0": _with(candidate_score="[-0.0, 2, 3, 4, 5]"),
    "few scores": _with(candidate_score="[1]"),
    "null where it may be": _with(candidate_score="null", rules="null", slots="null"),
    "null where it may not be": _with(candidates="null"),
    "no candidates": _with(candidates="[]"),
    "candidates as an object": _with(candidates="{}"),
    "an unknown field": _with(extra="1"),
    "a field twice": _GOOD[:-1] + b', "user_id": 8}',
    "a field twice, the second wrong": _GOOD[:-1] + b', "user_id": null}',
    "a field twice, the first wrong": b'{"user_id": null, ' + _GOOD[1:],
    "slots as a float": _with(slots="2.0"),
    "slots as text": _with(slots='"2"'),
    "slots": _with(slots="2"),
    "rules": _with(rules='{"blocked": [3], "pinned": {"0": 5}}'),
    "rules with an unknown field": _with(rules='{"blockd": [3]}'),
    "rules as a list": _with(rules="[]"),
    "history": _with(
        history="[4, 5]", history_feedback="[1, 0]", history_time=f"[{_TIME}, {_TIME}]"
    ),
    "history in the wrong order": _with(
        history="[4, 5]",
        history_feedback="[1, 0]",
        history_time=f'[{_TIME}, "2023-01-01T00:00:00Z"]',
    ),
    "history in order by its zones": _with(
        history="[4, 5]",
        history_feedback="[1, 0]",
        history_time=f'[{_TIME}, "2024-01-01T02:00:00+01:00"]',
    ),
    "missing": _with(missing='"mean"'),
    "missing with another word": _with(missing='"men"'),
    "nothing": b"",
    "a word": b"null",
    "a list": b"[]",
    "cut off": _GOOD[:-5],
    "text after it": _GOOD + b"x",
    "a comma too many": _GOOD[:-1] + b",}",
    "a control character": _with(request_id='"a\tb"'),
    "no UTF-8": _with(request_id='"').replace(b'"",', b'"\xff",'),
    "UTF-16": _GOOD.decode().encode("utf-16"),
    "a byte-order mark": b"\xef\xbb\xbf" + _GOOD,
    "deep": b"[" * 100_000,
    "deep inside": _with(rules='{"a": ' * 5_000 + "1" + "}" * 5_000),
}
TYPES = ("application/json", "application/json; charset=utf-8", "text/plain", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


@pytest.fixture(scope="module")
def apps(folder):
    """The application, and one whose bodies the framework reads."""
    made = create_app(Service(folder, deadline=30.0), Keys(f"shop:{KEY}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_module, "json_route", guarded_route)
        usual = create_app(Service(folder, deadline=30.0), Keys(f"shop:{KEY}"))
    with TestClient(made) as first, TestClient(usual) as second:
        yield first, second


def _answer(client: TestClient, path: str, sent: bytes, **headers: str) -> tuple[int, Any]:
    got = client.post(path, content=sent, headers=headers)
    return got.status_code, got.json()


@pytest.mark.parametrize("name", BODIES)
def test_answers_are_those_of_the_framework(apps, name):
    made, usual = apps
    sent = BODIES[name]
    kinds = TYPES if name == "good" else TYPES[:1]
    for path, content in (("/v1/rank", sent), ("/v1/rank:batch", b'{"requests": [' + sent + b"]}")):
        for kind in kinds:
            headers = {} if kind is None else {"content-type": kind}
            for key in ({}, RIGHT):
                ours = _answer(made, path, content, **headers, **key)
                assert ours == _answer(usual, path, content, **headers, **key)
                assert ours[0] < 500


def test_enough_of_these_bodies_are_good(apps):
    made, _ = apps
    found = {name: _answer(made, "/v1/rank", sent, **{"content-type": TYPES[0]}, **RIGHT)[0]
             for name, sent in BODIES.items()}  # fmt: skip
    good = [name for name, status in found.items() if status == 200]
    print(f"{len(good)} of {len(found)} bodies are ranked")
    assert len(good) >= 12
    assert len(found) - len(good) >= 25


def test_a_good_body_is_read_once(apps, monkeypatch):
    made, usual = apps

    async def never(_: Request) -> Any:
        raise AssertionError("the framework reads the body")

    monkeypatch.setattr(Request, "json", never)
    headers = {"content-type": "application/json", **RIGHT}
    assert _answer(made, "/v1/rank", _GOOD, **headers)[0] == 200
    assert _answer(made, "/v1/rank:batch", b'{"requests": [' + _GOOD + b"]}", **headers)[0] == 200
    assert _answer(usual, "/v1/rank", _GOOD, **headers)[0] != 200
