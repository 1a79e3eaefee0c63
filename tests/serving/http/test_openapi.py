"""Requests drawn from the OpenAPI schema: no fault of the server, no answer outside the schema."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle

schemathesis = pytest.importorskip("schemathesis")
_KEY = "0123456789abcdef"


_RIGHT = {"Authorization": f"Bearer {_KEY}"}
CALLERS = {"no keys": (None, {}), "its key": (_KEY, _RIGHT), "no key sent": (_KEY, {})}


@pytest.fixture(scope="module", params=CALLERS)
def caller(request):
    return request.param


@pytest.fixture(scope="module")
def schema(caller, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openapi")
    bundle = make_bundle(reward=False).save(folder / "bundle")
    service = Service(bundle, Store(f"sqlite:///{folder / 's.db'}"), deadline=10.0)
    key, _ = CALLERS[caller]
    keys = None if key is None else Keys(f"shop:{key}")
    app = create_app(service, keys, wrong_keys=10**9)
    # schemathesis starts and stops the application again and again; a service stops but once.
    app.router.lifespan_context = lambda _: nullcontext()
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    service.close()


# What a bundle knows (types of ids, widths) is no part of the schema, so a request that obeys it may
# still be refused; and unknown parameters of a query are ignored, as is usual.
_NOT_OURS = ("positive_data_acceptance", "negative_data_rejection")


def _few(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_requests_of_the_schema(schema, caller, mode):
    """`positive` requests obey the schema, `negative` ones break it somewhere."""
    codes: dict[str, Counter[int]] = {}
    faults: dict[str, str] = {}
    for operation in (found.ok() for found in schema.get_all_operations()):
        seen = codes.setdefault(operation.label, Counter())
        cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
        try:
            _few(15 if operation.method == "post" else 5)(given(cases)(_asker(seen, caller)))()
        except Unsatisfiable:  # nothing to break: a GET without parameters
            assert mode == "negative"
        except Exception as error:
            faults[operation.label] = str(error)
    print(caller, mode, {label: dict(seen) for label, seen in codes.items()})
    assert not faults, "\n".join(f"{label}: {said}" for label, said in faults.items())
    assert not any(status >= 500 for seen in codes.values() for status in seen)
    guarded = [seen for label, seen in codes.items() if "/v1/" in label or "/metrics" in label]
    if caller == "no key sent":
        assert all(set(seen) == {401} for seen in guarded if seen)
    elif (caller, mode) != ("its key", "negative"):  # which breaks the key too
        assert not any(401 in seen for seen in guarded)
    assert all(codes[f"POST /v1/{name}"] for name in ("rank", "rank:batch", "feedback"))


def _asker(seen: Counter[int], caller: str):
    _, headers = CALLERS[caller]
    schemathesis.checks.load_all_checks()
    names = [*_NOT_OURS]
    if caller == "no keys":  # the schema says how a key is sent, but this server asks for none
        names.append("ignored_auth")
    excluded = schemathesis.checks.CHECKS.get_by_names(names)

    def ask(case) -> None:
        answer = case.call(headers=headers)
        seen[answer.status_code] += 1
        case.validate_response(answer, headers=headers, excluded_checks=excluded)

    return ask


@pytest.mark.parametrize("route", ["rank", "rank:batch"])
def test_requests_that_suit_the_bundle(schema, caller, route):
    """Of the schema, but with ids of the bundle's type and lists of equal length: most are served."""
    seen: Counter[int] = Counter()
    operation = schema[f"/v1/{route}"]["POST"]
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    _few(25)(given(cases.map(_suited))(_asker(seen, caller)))()
    print(caller, route, dict(seen))
    if caller == "no key sent":
        assert set(seen) == {401}
        return
    assert set(seen) <= {200, 409, 422}  # a batch may say one request_id twice; rules ask much
    assert seen[200] >= 3


def _suited(case):
    for body in case.body.get("requests", [case.body]):
        ids = list(dict.fromkeys(_number(each) for each in body["candidates"]))
        past = [_number(each) for each in body.get("history") or []]
        scores = body.get("candidate_score") or [0.5]
        body |= {
            "user_id": _number(body["user_id"]),
            "candidates": ids,
            "candidate_features": [[0.5, float(number)] for number in range(len(ids))],
            "candidate_score": (scores * len(ids))[: len(ids)],
            "history": past,
            "history_feedback": None,
            "history_time": None,
        }
        if isinstance(body.get("slots"), float):  # 3.0 is an integer to the schema alone
            body["slots"] = int(body["slots"])
    return case


def _number(given: object) -> int:
    return len(str(given)) if isinstance(given, str) else int(given) % 50  # type: ignore[call-overload]
