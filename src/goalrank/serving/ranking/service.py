"""The service without HTTP: route, rank in time or degrade, store, answer."""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import polars as pl

from goalrank.bundles import (
    MANIFEST,
    Bundle,
    ListGraph,
    Predictor,
    Ranked,
    TimedStep,
    load_graph,
    record_times,
)
from goalrank.constraints import Constraints
from goalrank.errors import BundleError, ConfigError, GoalRankError, MissingExtraError, StoreError
from goalrank.experiments import Experiment, Experiments, draft_coins, draft_label, team_draft
from goalrank.requests import TableInfo
from goalrank.serving.http.schemas import Answer, RankBody
from goalrank.serving.observability.metrics import Metrics
from goalrank.serving.observability.tracing import Tracing
from goalrank.serving.ranking.batcher import Batcher, FullError
from goalrank.serving.ranking.pending_work import PendingWork, run_blocking, wait_aside
from goalrank.serving.store.records import Event, Exposure, StoredExposure
from goalrank.serving.store.store import CONFIRM_S, Store, confirm

_LOG = logging.getLogger("goalrank.serving")
DEFAULT = "default"
_NO_SPAN = nullcontext()


@dataclass(frozen=True)
class _Job:
    """One request on its way: who ranks it, its row of the table, and how long a list it wants."""

    engine: Predictor
    row: dict[str, Any]
    slots: int
    rules: Constraints | None
    experiment: str | None
    policy: str
    marks: list[TimedStep] = field(default_factory=list)  # stages on the way, where traces are kept


@dataclass(frozen=True)
class _Take:
    """A request's jobs: one, or the two whose lists are drafted into one."""

    jobs: list[_Job]
    draft: Experiment | None = None


class Service:
    """Bundles, a store, and what happens between a request and its answer.

    Args:
        bundle: folder that is served where no experiment says otherwise.
        store: exposures go there before their lists are returned; None logs nothing.
        experiments: arms and their bundles.
        deadline: seconds a list may take before the retriever's order is given instead.
        on_store_failure: `fail` refuses the request, `serve-unlogged` answers all the same.
        items, users, rules, temperature, seed: of every engine, see `Predictor`.
        backend: `onnx` ranks by exported graphs, made where they are not kept yet; `auto` where
            they are kept; what a graph cannot rank, PyTorch does (`goalrank_ranked_total`).
        threads: of ONNX Runtime; PyTorch's are the process's.
        tracing: where spans go; None keeps none.

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
        rules: Constraints | None = None,
        temperature: float | None = None,
        seed: int = 0,
        backend: Literal["torch", "onnx", "auto"] = "torch",
        threads: int = 1,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.store, self.experiments = store, experiments or Experiments()
        self.deadline, self.on_store_failure = deadline, on_store_failure
        self.metrics, self.tracing = metrics or Metrics(), tracing
        self._options: dict[str, Any] = {
            "items": items, "users": users, "rules": rules, "temperature": temperature,
            "seed": seed, "observe": self.metrics.count,
        }  # fmt: skip
        self._backend, self._threads = backend, threads
        self._folders = {DEFAULT: Path(bundle)} | {b: Path(b) for b in self.experiments.bundles}
        self._engines: dict[str, Predictor] = {}
        self._marks: dict[str, object] = {}
        self._swap = threading.Lock()
        self.reload()
        self._batcher: Batcher[_Job, Ranked] = Batcher(self._work)
        self._spare = ThreadPoolExecutor(thread_name_prefix="goalrank-fallback")
        self.draining = False
        if store is not None:
            store.describe(self.info)

    @property
    def info(self) -> TableInfo:
        """What requests look like: the default bundle's training table."""
        return self._engines[DEFAULT].bundle.encoder.info

    @property
    def engines(self) -> dict[str, Predictor]:
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

    def _load(self, name: str, folder: Path) -> Predictor:
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
        engine = Predictor(
            bundle, name=f"{bundle.config.name}@{digest}", graph=self._graph(bundle, folder),
            **self._options,
        )  # fmt: skip
        engine.warm()
        return engine

    def _graph(self, bundle: Bundle, folder: Path) -> ListGraph | None:
        if self._backend == "torch":
            return None
        if not bundle.ranker.decodes_greedily:
            _LOG.info("ranker %s has no exported graph; PyTorch ranks", bundle.config.name)
            return None
        try:
            return load_graph(
                _manifest(folder).parent, export=self._backend == "onnx", threads=self._threads
            )
        except (BundleError, MissingExtraError):
            if self._backend == "onnx":
                raise
            _LOG.exception("the exported graph cannot be used; PyTorch ranks")
            return None

    def rank(self, bodies: Sequence[RankBody]) -> list[Answer]:
        """Lists for B requests; their exposures are durable when this returns.

        Raises:
            GoalRankError: a request that no model can rank (types, features, rules), a request id
                in use, or a store that refuses.
        """
        return run_blocking(self._rank(bodies))

    async def rank_async(self, bodies: Sequence[RankBody]) -> list[Answer]:
        """The same without holding up the event loop, nor a thread for each request that waits."""
        return await wait_aside(self._rank(bodies))

    def _span(self, name: str, **attributes: int) -> AbstractContextManager[None]:
        return _NO_SPAN if self.tracing is None else self.tracing.span(name, **attributes)

    def _rank(self, bodies: Sequence[RankBody]) -> PendingWork[list[Answer]]:
        with self._span("rank", requests=len(bodies)):
            end = perf_counter() + self.deadline
            now = datetime.now(UTC)
            takes = [self._take(body, now) for body in bodies]
            jobs = [job for take in takes for job in take.jobs]
            waiting = [self._submit(job) for job in jobs]
            self.metrics.queue.set(self._batcher.waiting)
            ranked = []
            for job, future in zip(jobs, waiting):
                ranked.append((yield from self._wait(job, future, end)))
            if self.tracing is not None:
                self.tracing.add([mark for job in jobs for mark in list(job.marks)])
            lists = iter(ranked)
            settled = [_settle(take, [next(lists) for _ in take.jobs]) for take in takes]
            logged = yield from self._record(settled)
            return [_answer(job, each, logged) for job, each in settled]

    def _submit(self, job: _Job) -> Future[Ranked] | None:
        try:
            return self._batcher.submit(job)
        except FullError:
            return None

    def _take(self, body: RankBody, now: datetime) -> _Take:
        """The rankers of one request: one, or two that will share the list."""
        request_id = body.request_id or _fresh_id(now)
        label, folder = self.experiments.assign(body.user_id, request_id)
        interleaving = self.experiments.interleaving(body.user_id, request_id)
        names = (folder,) if interleaving is None else interleaving.bundles
        jobs = [self._job(body, request_id, now, name or DEFAULT, label) for name in names]
        if interleaving is None:
            return _Take(jobs)
        if not all(job.engine.rules.hold_for_drafts for job in jobs) or not (
            body.rules is None or body.rules.hold_for_drafts
        ):
            return _Take(jobs[:1])  # two lists that obey a rule can make one that does not
        return _Take(jobs, interleaving.experiment)

    def _job(
        self, body: RankBody, request_id: str, now: datetime, name: str, experiment: str | None
    ) -> _Job:
        engine = self._engines[name]
        width = len(engine.bundle.encoder.info.candidate_features)
        given = body.candidate_features or []
        if any(len(vector) != width for vector in given) or (width and not given):
            raise ConfigError(
                f"candidate_features: this model wants {width} numbers a candidate "
                f"({list(engine.bundle.encoder.info.candidate_features)}); remedy: send them"
            )
        _check_ids(body, engine)
        row, slots = body.row(request_id, now), body.slots or engine.slots
        return _Job(engine, row, slots, body.rules, experiment, engine.name)

    def _wait(self, job: _Job, future: Future[Ranked] | None, end: float) -> PendingWork[Ranked]:
        """The model's list, or the retriever's order if the model fails or takes too long."""
        reason = "overload"
        if future is not None:
            yield future, max(end - perf_counter(), 0.0)
            try:
                return future.result(0)
            except GoalRankError:
                raise  # the request's own fault
            except TimeoutError:
                future.cancel()
                reason = "deadline"
            except Exception:
                _LOG.exception("the model failed; serving the retriever's order")
                reason = "failure"
        self.metrics.degraded.labels(reason).inc()
        # In a thread: rules can make it long, and the batcher may be what is late.
        spare = self._spare.submit(job.engine.fallback, [job.row], job.slots, rules=[job.rules])
        yield spare, None
        return spare.result()[0]

    def _work(self, jobs: Sequence[_Job]) -> list[Ranked]:
        """Rank jobs of any mixture: those of one engine, length and layout go together."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, job in enumerate(jobs):
            scored = job.row["candidate_score"] is not None
            groups.setdefault((id(job.engine), job.slots, scored), []).append(i)
        out: dict[int, Ranked] = {}
        for rows in groups.values():
            part = [jobs[i] for i in rows]
            with record_times(self.tracing is not None) as marks:
                lists = part[0].engine.rank(
                    [job.row for job in part], part[0].slots, rules=[job.rules for job in part]
                )
            for job in part:
                job.marks.extend(marks)
            out.update(zip(rows, lists))
        return [out[i] for i in range(len(jobs))]

    def _record(self, settled: Sequence[tuple[_Job, Ranked]]) -> PendingWork[bool]:
        for _, each in settled:
            if not each.degraded and not math.isnan(each.log_prob):
                self.metrics.surprise.observe(-each.log_prob)
        if self.store is None:
            return False
        exposures = [_exposure(job, each) for job, each in settled]
        try:
            with self._span("store", exposures=len(exposures)):
                stored = self.store.submit(exposures)
                yield stored, CONFIRM_S
                confirm(stored)
        except StoreError as error:
            self.metrics.unlogged.inc(len(settled))
            self.metrics.store_failures.labels(error.code).inc()
            if self.on_store_failure == "fail":
                raise
            _LOG.error("serving unlogged: %s", error)
            return False
        return True

    def feedback(self, events: Sequence[Event]) -> StoredExposure:
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
        try:
            with self._span("feedback", events=len(events)):
                return self.store.feedback(events)
        except StoreError as error:
            self.metrics.store_failures.labels(error.code).inc()
            raise

    def close(self) -> None:
        """Finish what waits, then close the store."""
        self.draining = True
        self._batcher.close()
        self._spare.shutdown()
        if self.store is not None:
            self.store.close()
        if self.tracing is not None:
            self.tracing.close()


def _fresh_id(now: datetime) -> str:
    """A request id that nobody has; later ones sort later, so that an index grows at its end."""
    return f"{int(now.timestamp() * 1e6):016x}{secrets.token_hex(8)}"


def _check_ids(body: RankBody, engine: Predictor) -> None:
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


def _exposure(job: _Job, ranked: Ranked) -> Exposure:
    return Exposure(
        **job.row, shown=ranked.positions, propensity=ranked.propensity,
        policy=_policy(job, ranked), experiment=job.experiment,
    )  # fmt: skip


def _answer(job: _Job, ranked: Ranked, logged: bool) -> Answer:
    return Answer(
        request_id=ranked.request_id, items=ranked.items,
        log_prob=None if math.isnan(ranked.log_prob) or ranked.degraded else ranked.log_prob,
        propensity=ranked.propensity,
        policy=_policy(job, ranked), experiment=job.experiment, relaxed=list(ranked.relaxed),
        degraded=ranked.degraded, logged=logged,
    )  # fmt: skip


def _policy(job: _Job, ranked: Ranked) -> str:
    return "retriever" if ranked.degraded else job.policy


def _settle(take: _Take, ranked: Sequence[Ranked]) -> tuple[_Job, Ranked]:
    """The list that is shown: the ranker's, or one drafted from two rankers' lists.

    A drafted list has no exact propensity: it is not drawn from either policy.
    """
    job, mine = take.jobs[0], ranked[0]
    if take.draft is None or any(each.degraded for each in ranked):
        return job, mine
    length = max(len(each.positions) for each in ranked)
    first, second = (
        np.array([[*each.positions, *[-1] * (length - len(each.positions))]], np.int64)
        for each in ranked
    )
    coins = draft_coins(take.draft, [mine.request_id], length)
    made = team_draft(first, second, coins)
    positions = [int(at) for at in made.lists[0] if at >= 0]
    items = [job.row["candidates"][at] for at in positions]
    label = draft_label(take.draft, made.teams[0].tolist())
    policy = "+".join(each.policy for each in take.jobs)
    relaxed = tuple(dict.fromkeys(rule for each in ranked for rule in each.relaxed))
    drafted = replace(
        mine, items=items, positions=positions, log_prob=math.nan, propensity=None, relaxed=relaxed
    )
    return replace(job, experiment=label, policy=policy), drafted


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
