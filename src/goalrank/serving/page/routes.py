"""Routes of the page at `/`: static files with a strict content policy, and the page's own data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, FastAPI, Query, Request, Response
from starlette.exceptions import HTTPException

from goalrank.bundles import Predictor
from goalrank.errors import ConfigError
from goalrank.experiments import RESERVED
from goalrank.requests import Requests
from goalrank.serving.http.schemas import RankBody
from goalrank.serving.page.examples import Examples, ItemSearch, item_cards, rule_columns
from goalrank.serving.page.experiments import ExperimentReports
from goalrank.serving.page.lists import (
    RETRIEVER,
    CompareBody,
    ListChoice,
    completed_row,
    make_list,
    served_variants,
)
from goalrank.serving.page.model_versions import model_versions
from goalrank.serving.page.user_states import StateBody, user_state
from goalrank.serving.ranking.served_bundles import DEFAULT
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.layouts import Layout
from goalrank.serving.store.records import Exposure

LABEL = RESERVED  # experiment label of exposures from the page, so that no experiment counts them
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Text = Annotated[str, Query(max_length=256)]
Limit = Annotated[int, Query(ge=1, le=100)]


def add_page(
    app: FastAPI,
    routes: APIRouter,
    service: Service,
    examples: Requests | None = None,
    models: Path | None = None,
) -> None:
    """Add the routes of the page.

    Args:
        app: the application, which gets the static files.
        routes: those that check the key and the rate; the page's are added to them.
        service: ranks and stores.
        examples: requests that the page offers; None takes those of the bundle.
        models: folder of the model registry whose champion is served; None for none.
    """
    _add_files(app)
    _PageRoutes(service, examples, models).add(routes)


def _add_files(app: FastAPI) -> None:
    """Add the static files; they hold no data, so they need no key."""
    folder = resources.files("goalrank.serving.page") / "static"
    files = {
        each.name: each.read_bytes()
        for each in folder.iterdir()
        if each.is_file() and each.name.rpartition(".")[2] in _TYPES
    }
    etags = {name: f'"{hashlib.sha256(data).hexdigest()[:16]}"' for name, data in files.items()}

    def answer(name: str, request: Request) -> Response:
        headers = {**_HEADERS, "ETag": etags[name]}
        if request.headers.get("if-none-match") == etags[name]:
            return Response(status_code=304, headers=headers)
        return Response(files[name], headers=headers, media_type=_TYPES[name.rpartition(".")[2]])

    @app.get("/", include_in_schema=False)
    def index(request: Request) -> Response:
        return answer("index.html", request)

    @app.get("/page/{name}", include_in_schema=False)
    def file(name: str, request: Request) -> Response:
        if name not in files:
            raise HTTPException(404, "the page has no such file")
        return answer(name, request)


@dataclass
class _PageRoutes:
    """Routes that only the page uses.

    Attributes:
        service: ranks and stores.
        given: requests that the page offers; None takes those of the bundle.
        models: folder of the model registry; None for none.
    """

    service: Service
    given: Requests | None
    models: Path | None = None

    def __post_init__(self) -> None:
        """Start without reports and examples."""
        self.reports = ExperimentReports(self.service)
        self._source: Requests | None = None
        self._examples = Examples(None)
        self._search: ItemSearch | None = None

    @property
    def examples(self) -> Examples:
        """The given examples, else those of the bundle that is served now."""
        source = self.given or self.service.predictors[DEFAULT].bundle.examples
        if source is not self._source:
            self._source, self._examples = source, Examples(source)
        return self._examples

    @property
    def items(self) -> pl.DataFrame | None:
        """The side table of items for titles and constraints."""
        own = self.service.predictors[DEFAULT].items
        return own if own is not None else self.examples.items

    @property
    def search(self) -> ItemSearch:
        """The search of items; made anew where another model or table is served."""
        items, predictor = self.items, self.service.predictors[DEFAULT]
        made = self._search
        if made is None or made.items is not items or made.predictor is not predictor:
            made = self._search = ItemSearch(items, predictor)
        return made

    def add(self, routes: APIRouter) -> None:
        """Add the routes to others."""
        self._add_choices(routes)
        self._add_lists(routes)
        self._add_states(routes)

        @routes.get("/v1/page/experiments")
        def experiments(days: Annotated[int, Query(ge=1, le=365)] = 14) -> dict[str, Any]:
            """Report the experiments over the latest days."""
            return self.reports.get(days)

    def _add_choices(self, routes: APIRouter) -> None:
        @routes.get("/v1/page/about")
        def about() -> dict[str, Any]:
            """Describe the server to the page."""
            return self.about()

        @routes.get("/v1/page/users")
        def users(query: Text = "", limit: Limit = 20) -> dict[str, Any]:
            """Find users who have an example request."""
            return {"users": self.examples.users(query, limit), "requests": len(self.examples)}

        @routes.get("/v1/page/request")
        def request(user: Text, index: Annotated[int, Query(ge=0, le=10**6)] = 0) -> dict[str, Any]:
            """Give an example request of a user, moved to the present time."""
            found = self.examples.request(user, index, datetime.now(UTC))
            if found is None:
                raise HTTPException(404, f"user {user!r} has no example {index}")
            body = found["request"]
            return found | {"cards": self.cards([*body["history"], *body["candidates"]])}

        @routes.get("/v1/page/items")
        def items(query: Text = "", limit: Limit = 12) -> dict[str, Any]:
            """Find items by title or id."""
            return {"items": self.search.find(query, limit)}

    def _add_lists(self, routes: APIRouter) -> None:
        @routes.post("/v1/page/compare")
        def compare(body: CompareBody) -> dict[str, Any]:
            """Make the lists of one or two variants; nothing is stored."""
            return self.compare(body)

        @routes.post("/v1/page/keep")
        def keep(body: CompareBody) -> dict[str, Any]:
            """Store lists as exposures, so that feedback can refer to them."""
            return self.keep(body)

        @routes.get("/v1/page/stored")
        def stored(request_id: Text, time: datetime) -> dict[str, Any]:
            """Read an exposure from the store; `time` is the time of its request."""
            return self.stored(request_id, time)

    def _add_states(self, routes: APIRouter) -> None:
        @routes.post("/v1/page/state")
        def state(body: StateBody) -> dict[str, Any]:
            """Show a user's state, and candidates' features beside those of training."""
            found = user_state(self.service, body)
            events = [event["item"] for event in found["events"]]
            ids = [*found["user"]["history"], *events, *found["candidates"]]
            return found | {"cards": self.cards(ids)}

        @routes.get("/v1/page/versions")
        def versions() -> dict[str, Any]:
            """Show the versions of the model, and what the gate said of them."""
            return model_versions(self.service, self.models)

    def about(self) -> dict[str, Any]:
        """Describe the served variants and what the page can offer."""
        default = self.service.predictors[DEFAULT]
        info, store = default.bundle.encoder.info, self.service.store
        return {
            "variants": [
                {
                    "key": key, "label": label, "policy": predictor.name,
                    "ranker": predictor.bundle.config.name,
                }
                for key, (label, predictor) in served_variants(self.service).items()
            ],
            "retriever": RETRIEVER,
            "temperature": default.temperature,
            "slots": default.slots,
            "dataset": default.bundle.train.get("dataset"),
            "warning": default.bundle.train.get("warning"),
            "kinds": list(info.feedback_kinds),
            "target": info.target,
            "candidate_features": list(info.candidate_features),
            "scored": default.bundle.encoder.score is not None,
            "numeric_users": default.bundle.encoder.users.vocabulary.ids.dtype != pl.String,
            "numeric_items": default.bundle.encoder.items.vocabulary.ids.dtype != pl.String,
            "examples": len(self.examples),
            "columns": rule_columns(self.items),
            "store": store is not None,
            "state": self.service.keeper is not None,
            "versions": self.models is not None,
            "experiments": [each.name for each in self.service.experiments.experiment],
        }  # fmt: skip

    def cards(self, ids: list[Any]) -> list[dict[str, Any]]:
        """Make one card per distinct item."""
        predictor = self.service.predictors[DEFAULT]
        return item_cards(list(dict.fromkeys(ids)), self.items, predictor)

    def compare(self, body: CompareBody) -> dict[str, Any]:
        """Make the lists, the cards of their items, and the label of the user's experiments."""
        request = _with_time(body.request)
        lists = [make_list(self.service, request, c, self.items).to_dict() for c in body.sides]
        assigned, _ = self.service.experiments.assign(request.user_id, body.sides[0].request_id)
        return {
            "time": request.time.isoformat() if request.time else None,
            "lists": lists,
            "experiment": assigned,
            "cards": self.cards([*request.history, *request.candidates]),
        }

    def keep(self, body: CompareBody) -> dict[str, Any]:
        """Make the same lists again and store them."""
        store = self.service.store
        if store is None:
            raise ConfigError("this server keeps no store; remedy: option: store")
        request = _with_time(body.request)
        kept = [self._exposure(request, choice) for choice in body.sides]
        store.record([exposure for exposure, _ in kept])
        return {"time": kept[0][0].time.isoformat(), "lists": [made for _, made in kept]}

    def _exposure(self, request: RankBody, choice: ListChoice) -> tuple[Exposure, dict[str, Any]]:
        made = make_list(self.service, request, choice, self.items)
        row, _ = completed_row(request, choice.request_id, self._predictor(choice))
        ranked = made.ranked
        exposure = Exposure(
            **row, shown=ranked.positions, propensity=ranked.propensity,
            slot_propensity=ranked.slot_propensity, policy=made.policy,
            experiment=f"{LABEL}:{choice.variant.replace(':', '.')}",
            layout=Layout.of(self._predictor(choice).bundle.encoder.info).name,
        )  # fmt: skip
        return exposure, made.to_dict()

    def _predictor(self, choice: ListChoice) -> Predictor:
        """The predictor of a choice; the default one for the retriever's order."""
        return served_variants(self.service)[
            DEFAULT if choice.variant == RETRIEVER else choice.variant
        ][1]

    def stored(self, request_id: str, time: datetime) -> dict[str, Any]:
        """Read an exposure and its feedback from the store."""
        store = self.service.store
        if store is None:
            raise ConfigError("this server keeps no store; remedy: option: store")
        if time.tzinfo is None or not 1970 <= time.year < 9999:
            raise ConfigError(f"time {time} needs a time zone and a year from 1970 to 9998")
        for rows in store.rows(time, time + timedelta(microseconds=1)):
            for row in rows:
                if row["request_id"] == request_id:
                    return _stored(row)
        raise HTTPException(404, f"the store has no request {request_id!r}")


def _with_time(request: RankBody) -> RankBody:
    """Set the time of a request that has none, so that ranking it again gives the same list."""
    if request.time is not None:
        return request
    return request.model_copy(update={"time": datetime.now(UTC)})


def _stored(row: dict[str, Any]) -> dict[str, Any]:
    items = [row["candidates"][at] for at in row["shown"]]
    return {
        "request_id": row["request_id"],
        "items": items,
        "propensity": row["propensity"],
        "policy": row["policy"],
        "experiment": row["experiment"],
        "answers": [
            {"item": items[slot], "slot": slot, "kind": kind, "value": value}
            for (slot, kind), value in sorted(row["slot_feedback"].items())
        ],
    }
