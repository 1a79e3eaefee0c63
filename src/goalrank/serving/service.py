"""The service without HTTP: route, rank in time or degrade, store, answer."""

from __future__ import annotations

import hashlib
import logging
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import polars as pl

from goalrank.errors import ConfigError, GoalRankError
from goalrank.requests import Requests, TableInfo
from goalrank.serving.batcher import Batcher, FullError
from goalrank.serving.bodies import Answer, RankBody
from goalrank.serving.bundle import Bundle
from goalrank.serving.engine import Engine, Ranked
from goalrank.serving.experiments import Experiments
from goalrank.serving.files import MANIFEST
from goalrank.serving.metrics import Metrics
from goalrank.serving.rules import Rules
from goalrank.serving.store import Event, Exposure, Store, StoreError, Taken

_LOG = logging.getLogger("goalrank.serving")
DEFAULT = "default"


@dataclass(frozen=True)
class _Job:
    """One request on its way: who ranks it, its row of the table, and how long a list it wants."""

    engine: Engine
    row: dict[str, Any]
    slots: int
    rules: Rules | None
    experiment: str | None


class Service:
    """Bundles, a store, and what happens between a request and its answer.

    Args:
        bundle: folder that is served where no experiment says otherwise.
        store: exposures go there before their lists are returned; None logs nothing.
        experiments: arms and their bundles.
        deadline: seconds a list may take before the retriever's order is given instead.
        on_store_failure: `fail` refuses the request, `serve-unlogged` answers all the same.
        items, users, rules, temperature, seed: of every engine, see `Engine`.

    Raises:
        BundleError: a folder holds no bundle.
    """

    def __init__(
        self,
        bundle: str | Path,
        store: Store | None = None,
        *,
        experiments: Experiments | None = None,
        deadline: float = 0.5,
        on_store_failure: Literal["fail", "serve-unlogged"] = "fail",
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        rules: Rules | None = None,
        temperature: float | None = None,
        seed: int = 0,
        metrics: Metrics | None = None,
    ) -> None:
        self.store, self.experiments = store, experiments or Experiments()
        self.deadline, self.on_store_failure = deadline, on_store_failure
        self.metrics = metrics or Metrics()
        self._options: dict[str, Any] = {
            "items": items, "users": users, "rules": rules, "temperature": temperature,
            "seed": seed,
        }  # fmt: skip
        self._folders = {DEFAULT: Path(bundle)} | {b: Path(b) for b in self.experiments.bundles}
        self._engines: dict[str, Engine] = {}
        self._marks: dict[str, object] = {}
        self._swap = threading.Lock()
        self.reload()
        self._batcher: Batcher[_Job, Ranked] = Batcher(self._work)
        self.draining = False
        if store is not None:
            store.describe(self.info)

    @property
    def info(self) -> TableInfo:
        """What requests look like: the default bundle's training table."""
        return self._engines[DEFAULT].bundle.encoder.info

    @property
    def engines(self) -> dict[str, Engine]:
        """What is served now, by name."""
        return dict(self._engines)

    def reload(self) -> list[str]:
        """Load bundles whose folders changed and swap them in; names of those swapped.

        Requests under way finish with the bundle they began with. A bundle that cannot be loaded
        changes nothing.

        Raises:
            BundleError: a folder holds no bundle.
        """
        with self._swap:
            fresh = {}
            for name, folder in self._folders.items():
                mark = _mark(folder)
                if mark is None or mark != self._marks.get(name):
                    fresh[name] = self._load(name, folder)
                    self._marks[name] = mark
            self._engines = self._engines | fresh  # one assignment: readers see old or new
            return sorted(fresh)

    def _load(self, name: str, folder: Path) -> Engine:
        bundle = Bundle.load(folder)
        if name != DEFAULT or self._engines:
            old = self._engines.get(DEFAULT)
            theirs = bundle.encoder.info
            if old is not None and (
                theirs.candidate_features != old.bundle.encoder.info.candidate_features
            ):
                raise ConfigError(
                    f"bundle '{folder}' wants candidate features {list(theirs.candidate_features)}"
                    f", but requests bring {list(old.bundle.encoder.info.candidate_features)}; "
                    f"remedy: serve it by a server of its own"
                )
        digest = _digest(folder)
        return Engine(bundle, name=f"{bundle.config.name}@{digest}", **self._options)

    def rank(self, bodies: Sequence[RankBody]) -> list[Answer]:
        """Lists for B requests; their exposures are durable when this returns.

        Raises:
            GoalRankError: a request that no model can rank (types, features, rules), a request id
                in use, or a store that refuses.
        """
        began = perf_counter()
        now = datetime.now(UTC)
        jobs = [self._job(body, now) for body in bodies]
        waiting: list[Future[Ranked] | None] = []
        for job in jobs:
            try:
                waiting.append(self._batcher.submit(job))
            except FullError:
                waiting.append(None)
        self.metrics.queue.set(self._batcher.waiting)
        ranked = []
        for job, future in zip(jobs, waiting):
            left = max(self.deadline - (perf_counter() - began), 0.0)
            ranked.append(self._wait(job, future, left))
        logged = self._record(jobs, ranked)
        return [_answer(job, each, logged) for job, each in zip(jobs, ranked)]

    def _job(self, body: RankBody, now: datetime) -> _Job:
        request_id = body.request_id or uuid.uuid4().hex
        experiment, folder = self.experiments.assign(body.user_id, request_id)
        engine = self._engines[folder or DEFAULT]
        width = len(engine.bundle.encoder.info.candidate_features)
        given = body.candidate_features or []
        if any(len(vector) != width for vector in given) or (width and not given):
            raise ConfigError(
                f"candidate_features: this model wants {width} numbers a candidate "
                f"({list(engine.bundle.encoder.info.candidate_features)}); remedy: send them"
            )
        _check_ids(body, engine)
        return _Job(
            engine, body.row(request_id, now), body.slots or engine.slots, body.rules, experiment
        )

    def _wait(self, job: _Job, future: Future[Ranked] | None, left: float) -> Ranked:
        """The model's list, or the retriever's order if the model fails or takes too long."""
        reason = "overload"
        if future is not None:
            try:
                return future.result(left)
            except GoalRankError:
                raise  # the request's own fault
            except TimeoutError:
                future.cancel()
                reason = "deadline"
            except Exception:
                _LOG.exception("the model failed; serving the retriever's order")
                reason = "failure"
        self.metrics.degraded.labels(reason).inc()
        return job.engine.fallback(_table([job]), job.slots, rules=[job.rules])[0]

    def _work(self, jobs: Sequence[_Job]) -> list[Ranked]:
        """Rank jobs of any mixture: those of one engine, length and layout go together."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, job in enumerate(jobs):
            scored = job.row["candidate_score"] is not None
            groups.setdefault((id(job.engine), job.slots, scored), []).append(i)
        out: dict[int, Ranked] = {}
        for rows in groups.values():
            part = [jobs[i] for i in rows]
            table = _table(part)
            engine = part[0].engine
            self.metrics.count_ids(engine.bundle.encoder, table.frame)
            lists = engine.rank(table, part[0].slots, rules=[job.rules for job in part])
            out.update(zip(rows, lists))
        return [out[i] for i in range(len(jobs))]

    def _record(self, jobs: Sequence[_Job], ranked: Sequence[Ranked]) -> bool:
        for each in ranked:
            if not each.degraded:
                self.metrics.surprise.observe(-each.log_prob)
        if self.store is None:
            return False
        exposures = [_exposure(job, each) for job, each in zip(jobs, ranked)]
        try:
            self.store.record(exposures)
        except StoreError:
            self.metrics.unlogged.inc(len(jobs))
            if self.on_store_failure == "fail":
                raise
            _LOG.exception("the store refuses; serving unlogged")
            return False
        return True

    def feedback(self, events: Sequence[Event]) -> Taken:
        """Store answers.

        Raises:
            ConfigError: a kind that the model's table does not have, or no store.
            UnknownRequestError: a request or item that was not shown.
        """
        if self.store is None:
            raise ConfigError("this server keeps no store; remedy: option: store")
        kinds = self.info.feedback_kinds
        odd = next((event.kind for event in events if event.kind not in kinds), None)
        if odd is not None:
            raise ConfigError(f"feedback of kind {odd!r}, but this model knows {list(kinds)}")
        return self.store.feedback(events)

    def close(self) -> None:
        """Finish what waits, then close the store."""
        self.draining = True
        self._batcher.close()
        if self.store is not None:
            self.store.close()


def _check_ids(body: RankBody, engine: Engine) -> None:
    """Ids of the model's own types: polars would refuse mixed ones only much later."""
    encoder = engine.bundle.encoder
    for what, ids, entity in (
        ("item", (*body.candidates, *body.history), encoder.items),
        ("user", (body.user_id,), encoder.users),
    ):
        wanted = str if entity.vocabulary.ids.dtype == pl.String else int
        odd = next((each for each in ids if type(each) is not wanted), None)
        if odd is not None:
            raise ConfigError(
                f"{what} id {odd!r} is a {type(odd).__name__}, but this model's are "
                f"{wanted.__name__}: a string '7' and a number 7 are different ids"
            )


def _table(jobs: Sequence[_Job]) -> Requests:
    info = jobs[0].engine.bundle.encoder.info
    width = len(info.candidate_features)
    frame = pl.DataFrame(
        [job.row for job in jobs],
        schema_overrides={
            "time": pl.Datetime("us", "UTC"),
            "history_time": pl.List(pl.Datetime("us", "UTC")),
            "candidate_score": pl.List(pl.Float32),
            "candidate_features": pl.List(pl.Array(pl.Float32, width)),
        },
        infer_schema_length=None,
    )
    if frame["candidate_score"].null_count():
        frame = frame.drop("candidate_score")
    if not width:
        frame = frame.drop("candidate_features")
    return Requests(frame, info=info)


def _exposure(job: _Job, ranked: Ranked) -> Exposure:
    return Exposure(
        **job.row, shown=ranked.positions, propensity=ranked.propensity,
        policy=_policy(job, ranked), experiment=job.experiment,
    )  # fmt: skip


def _answer(job: _Job, ranked: Ranked, logged: bool) -> Answer:
    return Answer(
        request_id=ranked.request_id, items=ranked.items,
        log_prob=None if ranked.degraded else ranked.log_prob, propensity=ranked.propensity,
        policy=_policy(job, ranked), experiment=job.experiment, relaxed=list(ranked.relaxed),
        degraded=ranked.degraded, logged=logged,
    )  # fmt: skip


def _policy(job: _Job, ranked: Ranked) -> str:
    return "retriever" if ranked.degraded else job.engine.name


def _manifest(folder: Path) -> Path:
    inner = folder / "bundle" / MANIFEST
    return inner if inner.is_file() and not (folder / MANIFEST).is_file() else folder / MANIFEST


def _mark(folder: Path) -> object:
    """Changes when another bundle takes the folder's place."""
    try:
        found = _manifest(folder).stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _digest(folder: Path) -> str:
    return hashlib.sha256(_manifest(folder).read_bytes()).hexdigest()[:12]
