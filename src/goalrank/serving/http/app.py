"""Web application of a `Service`: routes, keys, limits and error codes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from goalrank._version import __version__
from goalrank.errors import (
    ConfigError,
    DataError,
    DuplicateRequestError,
    GoalRankError,
    InfeasibleError,
    OverloadError,
    StoreError,
    UnknownRequestError,
)
from goalrank.requests import Requests
from goalrank.serving.http.access import ARRIVED, AnswerMetrics, BodyLimit, Keys, error_json
from goalrank.serving.http.admission import Admission, Admitted
from goalrank.serving.http.authorization import WRONG, Access
from goalrank.serving.http.broken_rules import broken_rules
from goalrank.serving.http.drain import drain_on_signals
from goalrank.serving.http.events import add_events
from goalrank.serving.http.guarded_routes import guarded_route, json_route
from goalrank.serving.http.health import add_health
from goalrank.serving.http.hosts import AllowedHosts
from goalrank.serving.http.schemas import (
    ERROR_ANSWERS,
    Answer,
    BatchAnswer,
    BatchBody,
    FeedbackAnswer,
    FeedbackBody,
    RankBody,
)
from goalrank.serving.http.settings import MAX_BODY
from goalrank.serving.observability.tracing import TraceContext
from goalrank.serving.page.api_docs import add_api_docs
from goalrank.serving.page.routes import add_page
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.records import Event

_LOG = logging.getLogger("goalrank.serving")
# The first class that fits counts: subclasses come before their parents.
_STATUS: tuple[tuple[type[GoalRankError], int], ...] = (
    (DuplicateRequestError, 409),
    (UnknownRequestError, 404),
    (StoreError, 503),
    (OverloadError, 503),
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
    body_timeout: float = 10.0,
    watch: float | None = None,
    hosts: Sequence[str] = (),
    wrong_keys: int = WRONG,
    examples: Requests | None = None,
    models: Path | None = None,
) -> FastAPI:
    """Make the web application of a service; closing it finishes its requests and closes it.

    Args:
        service: ranks and stores.
        keys: API keys; None accepts every caller.
        max_body: size of a request's body in bytes, at most.
        body_timeout: seconds in which a body must arrive.
        watch: seconds between two looks for changed bundles; None never looks.
        hosts: that requests may name, see `AllowedHosts`; none allows any.
        wrong_keys: that an address may try per minute.
        examples: requests that the page offers; None takes those of the bundle.
        models: folder of the model registry whose champion is served, for the page.
    """
    admission = Admission(service.deadline, service.metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        watcher = None if watch is None else service.watch(watch)
        beat = asyncio.create_task(admission.beat())
        drain_on_signals(service)
        yield {"admission": admission}
        beat.cancel()
        if watcher is not None:
            watcher.close()
        service.close()

    app = FastAPI(
        title="goalrank", version=__version__, lifespan=lifespan, responses=ERROR_ANSWERS,
        docs_url=None, redoc_url=None,  # they load scripts from elsewhere
    )  # fmt: skip
    app.state.service = service
    _add_errors(app)
    access = Access(keys or Keys(), wrong_keys)
    routes = access.routes(guarded_route)
    _add_lists(app, routes, service, access)
    if service.keeper is not None:
        add_events(routes, service, service.keeper)
    add_page(app, routes, service, examples, models)
    add_api_docs(app)
    add_health(app, routes, service)
    app.include_router(routes)
    app.add_middleware(Admitted, admission=admission)
    app.add_middleware(BodyLimit, max_bytes=max_body, timeout=body_timeout)
    app.add_middleware(AllowedHosts, hosts=hosts)
    app.add_middleware(AnswerMetrics, metrics=service.metrics)
    if service.tracing is not None:
        app.add_middleware(TraceContext, tracing=service.tracing)
    return app


def _add_lists(app: FastAPI, routes: APIRouter, service: Service, access: Access) -> None:
    lists = access.routes(json_route)

    # A response instead of the model: the framework would validate the answer again.
    @lists.post("/v1/rank", response_model=Answer)
    async def rank(body: RankBody, request: Request) -> Response:
        """Rank one request."""
        arrived = request.scope.get(ARRIVED)
        return _json((await service.rank_async([body], arrived))[0])

    @lists.post("/v1/rank:batch", response_model=BatchAnswer)
    def rank_batch(body: BatchBody, request: Request) -> Response:
        """Rank several requests; the lists are in their order. Each list costs a token of the rate."""
        access.charge(request, len(body.requests))
        return _json(BatchAnswer(lists=service.rank(body.requests, request.scope.get(ARRIVED))))

    app.include_router(lists)

    @routes.post("/v1/feedback")
    async def feedback(body: FeedbackBody) -> FeedbackAnswer:
        """Store feedback of users; sending it again changes nothing."""
        events = [Event(**event.model_dump()) for event in body.events]
        counts = await service.feedback_async(events)
        return FeedbackAnswer(
            stored=counts.stored, duplicates=counts.duplicates, replaced=counts.replaced
        )

    @routes.get("/v1/models")
    def models() -> dict[str, Any]:
        """List the models that are served now."""
        return {
            "models": [
                {
                    "bundle": name, "policy": predictor.name, "slots": predictor.slots,
                    "ranker": predictor.bundle.config.name,
                    "dataset": predictor.bundle.train.get("dataset"),
                    "candidate_features": predictor.bundle.encoder.info.candidate_features,
                    "feedback_kinds": predictor.bundle.encoder.info.feedback_kinds,
                }
                for name, predictor in service.predictors.items()
            ]
        }  # fmt: skip


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(GoalRankError)
    def of_goalrank(_: Request, error: GoalRankError) -> Response:
        status = next((s for kind, s in _STATUS if isinstance(error, kind)), 500)
        again = {"Retry-After": "1"} if status == 503 else None
        return _error(
            status, "internal" if status == 500 else error.code, str(error), headers=again
        )

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        faults = broken_rules(error.errors(), error.body)
        if any(fault["type"] == "json_invalid" for fault in error.errors()):
            return _error(400, "malformed_json", "the body is not JSON", faults)
        return _error(422, "invalid_request", "the request breaks rules", faults)

    @app.exception_handler(RecursionError)
    def nested(_: Request, __: RecursionError) -> Response:
        return _error(400, "malformed_json", "the body is nested too deep")

    @app.exception_handler(HTTPException)
    def of_http(_: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "malformed_json")
        return _error(error.status_code, code, str(error.detail), headers=error.headers)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _error(
    status: int,
    code: str,
    message: str,
    details: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    content = error_json(code, message, details or [])
    return Response(content, status, headers, media_type="application/json")
