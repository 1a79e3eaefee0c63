"""HTTP around a `Service`: routes, keys, limits, error codes."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from goalrank._version import __version__
from goalrank.errors import (
    ConfigError,
    DataError,
    DuplicateRequestError,
    GoalRankError,
    InfeasibleError,
    StoreError,
    UnknownRequestError,
)
from goalrank.requests import Requests
from goalrank.serving.http.access import CHALLENGE, BodyLimit, Keys, Timing, error_json
from goalrank.serving.http.schemas import (
    REFUSALS,
    Answer,
    BatchAnswer,
    BatchBody,
    FeedbackAnswer,
    FeedbackBody,
    RankBody,
)
from goalrank.serving.http.settings import MAX_BODY
from goalrank.serving.observability.tracing import TraceContext
from goalrank.serving.page.routes import add_page
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.records import Event

_LOG = logging.getLogger("goalrank.serving")
_BEARER = HTTPBearer(auto_error=False)
# The first class that fits counts: subclasses stand before their parents.
_STATUS: tuple[tuple[type[GoalRankError], int], ...] = (
    (DuplicateRequestError, 409),
    (UnknownRequestError, 404),
    (StoreError, 503),
    (InfeasibleError, 422),
    (ConfigError, 422),
    (DataError, 422),
)
_CODES = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 429: "rate_limited"}


def create_app(
    service: Service,
    keys: Keys | None = None,
    *,
    max_body: int = MAX_BODY,
    patience: float = 10.0,
    watch: float | None = None,
    examples: Requests | None = None,
) -> FastAPI:
    """The web application of a service; closing it drains and closes the service.

    Args:
        keys: API keys; None leaves the door open.
        max_body: bytes of a request's body.
        patience: seconds that a body may take to come.
        watch: look for changed bundles every so many seconds; None never.
        examples: requests that the page offers; None takes those in the bundle.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        if watch is not None:
            threading.Thread(target=_watch, args=(service, watch, stop), daemon=True).start()
        yield
        stop.set()
        service.close()

    app = FastAPI(title="goalrank", version=__version__, lifespan=lifespan, responses=REFUSALS)
    app.state.service = service
    _add_errors(app)
    app.add_middleware(Timing, metrics=service.metrics)
    door = _door(keys or Keys())
    _add_lists(app, service, door)
    add_page(app, service, door, examples)
    _add_health(app, service)
    app.add_middleware(BodyLimit, most=max_body, patience=patience)
    if service.tracing is not None:
        app.add_middleware(TraceContext, tracing=service.tracing)
    return app


def _door(keys: Keys) -> Callable[..., Awaitable[None]]:
    # A coroutine: a plain function would cost every request a change of threads.
    async def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> None:
        name = keys.name(given.credentials if given else None)
        if name is None:
            raise HTTPException(401, "send Authorization: Bearer KEY", CHALLENGE)
        if not keys.allow(name):
            raise HTTPException(429, f"at most {keys.rate} requests/s", {"Retry-After": "1"})

    return check


def _add_lists(app: FastAPI, service: Service, door: Callable[..., Awaitable[None]]) -> None:
    guarded: dict[str, Any] = {"dependencies": [Depends(door)]}

    # Answers go out as they are: the framework would check them a second time.
    @app.post("/v1/rank", response_model=Answer, **guarded)
    async def rank(body: RankBody) -> Response:
        """A list for one request."""
        return _json((await service.rank_async([body]))[0])

    @app.post("/v1/rank:batch", response_model=BatchAnswer, **guarded)
    def rank_batch(body: BatchBody) -> Response:
        """Lists for several requests, in their order."""
        return _json(BatchAnswer(lists=service.rank(body.requests)))

    @app.post("/v1/feedback", **guarded)
    def feedback(body: FeedbackBody) -> FeedbackAnswer:
        """What users did with lists; sending it again changes nothing."""
        taken = service.feedback([Event(**event.model_dump()) for event in body.events])
        return FeedbackAnswer(
            stored=taken.stored, duplicates=taken.duplicates, replaced=taken.replaced
        )

    @app.get("/v1/models", **guarded)
    def models() -> dict[str, Any]:
        """What is served now."""
        return {
            "models": [
                {
                    "bundle": name, "policy": engine.name, "slots": engine.slots,
                    "ranker": engine.bundle.config.name,
                    "dataset": engine.bundle.train.get("dataset"),
                    "candidate_features": engine.bundle.encoder.info.candidate_features,
                    "feedback_kinds": engine.bundle.encoder.info.feedback_kinds,
                }
                for name, engine in service.engines.items()
            ]
        }  # fmt: skip


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/health/live")
    def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/health/ready")
    def ready() -> Response:
        """Lists can be served and stored."""
        good = not service.draining and (service.store is None or service.store.alive())
        text = b'{"status": "ready"}' if good else error_json("not_ready", "draining, or no store")
        return Response(text, 200 if good else 503, media_type="application/json")

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Prometheus text."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(GoalRankError)
    def ours(_: Request, error: GoalRankError) -> Response:
        status = next((s for kind, s in _STATUS if isinstance(error, kind)), 500)
        return _refusal(status, "internal" if status == 500 else error.code, str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        faults = [
            {"where": ".".join(map(str, fault["loc"])), "rule": fault["msg"]}
            for fault in error.errors()[:20]
        ]
        if any(fault["type"] == "json_invalid" for fault in error.errors()):
            return _refusal(400, "malformed_json", "the body is no JSON", faults)
        return _refusal(422, "invalid_request", "the request breaks rules", faults)

    @app.exception_handler(RecursionError)
    def nested(_: Request, __: RecursionError) -> Response:
        return _refusal(400, "malformed_json", "the body is nested too deep")

    @app.exception_handler(HTTPException)
    def plain(_: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "malformed_json")
        return _refusal(error.status_code, code, str(error.detail), headers=error.headers)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _refusal(
    status: int,
    code: str,
    message: str,
    details: list[dict[str, Any]] | None = None,
    headers: Any = None,
) -> Response:
    content = error_json(code, message, details or [])
    return Response(content, status, headers, media_type="application/json")


def _watch(service: Service, seconds: float, stop: threading.Event) -> None:
    while not stop.wait(seconds):
        try:
            for name in service.reload():
                _LOG.warning("bundle '%s' was swapped", name)
        except GoalRankError as error:
            _LOG.error("a changed bundle cannot be served, the old one stays: %s", error)
