"""Routes that look at a request's key before they parse its body.

`BodyLimit` has read the body by then, up to its limit.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Check = Callable[[Request], Awaitable[None]]


def guarded_route(check: Check) -> type[APIRoute]:
    """Make a class of routes that take a body.

    The framework reads and parses a body before it asks what the route depends on.

    Args:
        check: raises where a request is not allowed; asked twice of one request, it lets it pass.
    """

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            usual: Handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                await check(request)
                return await usual(request)

            return handle

    return GuardedRoute


def json_route(check: Check) -> type[APIRoute]:
    """Make a class of routes that take a body and the request, and give a response.

    The framework parses a body into Python's objects and checks these; pydantic does both at once
    in half the time. A body that it does not take goes the framework's way, which knows more
    encodings and says what is wrong.

    Args:
        check: as of `guarded_route`.
    """

    class JsonRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            usual: Handler = super().get_route_handler()
            model = _model(self.endpoint)
            endpoint = self.endpoint
            waits = inspect.iscoroutinefunction(endpoint)

            async def handle(request: Request) -> Response:
                await check(request)
                if request.headers.get("content-type") != "application/json":
                    return await usual(request)
                try:
                    body = model.model_validate_json(await request.body())
                except (ValidationError, RecursionError):
                    return await usual(request)
                if waits:
                    done: Response = await endpoint(body, request)
                    return done
                return await run_in_threadpool(endpoint, body, request)

            return handle

    return JsonRoute


def _model(endpoint: Callable[..., Any]) -> type[BaseModel]:
    """The model of an endpoint's first parameter."""
    first = next(iter(inspect.signature(endpoint, eval_str=True).parameters.values()))
    model: type[BaseModel] = first.annotation
    return model
