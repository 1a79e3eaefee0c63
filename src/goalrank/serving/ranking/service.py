"""Service without HTTP: it assigns requests to bundles, ranks within a deadline and stores exposures."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import polars as pl

from goalrank.bundles import (
    Predictor,
    Ranked,
    record_times,
)
from goalrank.constraints import Constraints
from goalrank.errors import (
    ConfigError,
    GoalRankError,
    OverloadError,
    StoreError,
)
from goalrank.experiments import Experiments
from goalrank.requests import Missing, TableInfo
from goalrank.serving.http.schemas import Answer, RankBody
from goalrank.serving.observability.metrics import Metrics
from goalrank.serving.observability.tracing import Tracing
from goalrank.serving.ranking.batcher import Batcher
from goalrank.serving.ranking.jobs import (
    RankJob,
    RequestJobs,
    answer_of,
    check_body,
    check_feedback,
    exposure_of,
    shown_list,
)
from goalrank.serving.ranking.memory import release_memory
from goalrank.serving.ranking.pending_work import PendingWork, run_async, run_blocking
from goalrank.serving.ranking.served_bundles import DEFAULT, BundleWatcher, ServedBundles
from goalrank.serving.state.filling import Filler, lacks_nothing
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.store.probe import StoreProbe
from goalrank.serving.store.records import Event, FeedbackCounts
from goalrank.serving.store.store import CONFIRM_S, Store
from goalrank.serving.store.writes import Write, confirm
from goalrank.storage import local_path

_LOG = logging.getLogger("goalrank.serving")
_NO_SPAN = nullcontext()
_FEEDBACK_DEPTH = 256  # callers who wait until their feedback is stored
_LARGE_DEPTH = 64  # requests that wait for the thread of large ones
_CLOSE_S = 2.0  # seconds that closing waits for a thread


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a server.

    Attributes:
        text: for people.
        fatal: whether no request should be sent to it.
    """

    text: str
    fatal: bool


class Service:
    """Serves lists: answers requests with the lists of its bundles and stores what was shown.

    Args:
        bundle: folder of this machine with the bundle that ranks users who are in no experiment.
        store: database to which exposures are written before their lists are returned; None
            stores nothing.
        experiments: experiments with their variants and bundles; None runs none.
        deadline: seconds, above 0, after which a request gets the retriever's order instead of the
            model's list.
        store_timeout: seconds, above 0, until a store that does not confirm counts as failed; what
            it was given is withdrawn then. With "serve-unlogged" the deadline counts too.
        on_store_failure: "fail" refuses a request whose exposure cannot be stored,
            "serve-unlogged" answers it without storing it.
        items: side table of items, see `Predictor`.
        users: side table of users, see `Predictor`.
        rules: constraints of every request, see `Predictor`.
        missing: what is done where a request lacks an input that the model was trained with, and
            does not say itself, see `Predictor`.
        temperature: above 0, see `Predictor`; None serves the best list.
        seed: of the drawn lists, see `Predictor`.
        backend: "torch"; "onnx" ranks by exported graphs and exports them where they are missing;
            "auto" ranks by the exported graphs that exist, for the sizes of batch at which they were
            faster when the bundle was loaded. PyTorch ranks what a graph cannot (counted in
            `goalrank_ranked_total`).
        threads: threads of ONNX Runtime, at least 1; those of PyTorch are set for the process.
        metrics: where measurements are counted; None makes a new registry.
        tracing: where spans are sent; None sends none.
        allow: packages whose rankers and rewards bundles may load; see `Bundle.load`.

    Attributes:
        keeper: state from events, which fills in what requests leave out; None where the server
            keeps none.

    Raises:
        BundleError: a folder holds no bundle that can be loaded.
        ConfigError: two bundles need different candidate features, or a bundle at an address.
    """

    def __init__(
        self,
        bundle: str | Path,
        store: Store | None = None,
        *,
        experiments: Experiments | None = None,
        deadline: float = 0.5,
        store_timeout: float = CONFIRM_S,
        on_store_failure: Literal["fail", "serve-unlogged"] = "fail",
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        rules: Constraints | None = None,
        missing: Missing = "refuse",
        temperature: float | None = None,
        seed: int = 0,
        backend: Literal["torch", "onnx", "auto"] = "torch",
        threads: int = 1,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        self.store, self.experiments = store, experiments or Experiments()
        self.deadline, self.on_store_failure = deadline, on_store_failure
        self.store_timeout = store_timeout
        self.metrics, self.tracing = metrics or Metrics(), tracing
        folders = {DEFAULT: local_path(bundle, "bundle")} | {
            name: local_path(name, "experiments") for name in self.experiments.bundles
        }
        options: dict[str, Any] = {
            "items": items, "users": users, "rules": rules, "temperature": temperature,
            "seed": seed, "observe": self.metrics.count, "missing": missing,
        }  # fmt: skip
        self._bundles = ServedBundles(
            folders, options, store=store, metrics=self.metrics, backend=backend, threads=threads,
            allow=allow,
        )  # fmt: skip
        self.keeper: StateKeeper | None = None
        self._filler: Filler | None = None
        self._before_ranking: list[Batcher[Any, Any] | Filler] = []
        self._batcher: Batcher[RankJob, Ranked] = Batcher(self._rank_batch)
        # A thread of its own, one by one: what takes long holds up neither the rest nor memory.
        self._large_batcher: Batcher[RankJob, Ranked] = Batcher(
            self._rank_large, batch_size=1, depth=_LARGE_DEPTH
        )
        # A thread of its own: feedback that waits for a database holds up nothing else.
        self._feedback_writer: Batcher[Sequence[Event], FeedbackCounts] = Batcher(
            self._write_feedback, full="too much feedback waits for the store; send it again",
            batch_size=1, depth=_FEEDBACK_DEPTH,
        )  # fmt: skip
        self._probe = None if store is None else StoreProbe(store)
        self._fallback_pool = ThreadPoolExecutor(thread_name_prefix="goalrank-fallback")
        self.draining = False

    @property
    def info(self) -> TableInfo:
        """Description of the requests: feedback types, candidate features, protocol."""
        return self.predictors[DEFAULT].bundle.encoder.info

    @property
    def predictors(self) -> dict[str, Predictor]:
        """Predictors that serve now, by the name of their bundle ("default" or its folder)."""
        return self._bundles.predictors

    def watch(self, seconds: float) -> BundleWatcher:
        """Start to look for changed bundles.

        Args:
            seconds: between two looks.
        """
        return BundleWatcher(self._bundles, seconds)

    def keep(self, keeper: StateKeeper) -> None:
        """Fill in what requests leave out, and what is known of items and users, from state.

        The state goes along with the default bundle.

        Args:
            keeper: made for the default bundle.
        """

        def adopt(name: str, predictor: Predictor) -> None:
            if name == DEFAULT:
                keeper.adopt(predictor.bundle.encoder.info, predictor.bundle.learnt)

        self.keeper, self._filler = keeper, Filler(keeper)
        self.close_first(self._filler)
        self._bundles.before_serving = adopt
        self._bundles.rank_by(keeper.latest)

    def reload(self) -> list[str]:
        """Serve the bundles whose folders changed from now on; see `ServedBundles.reload`."""
        return self._bundles.reload()

    def rank(self, bodies: Sequence[RankBody], arrived: float | None = None) -> list[Answer]:
        """Rank B requests; their exposures are on disk when this returns.

        Args:
            bodies: the requests.
            arrived: when they came, by `perf_counter`; the deadline counts from then. None is now.

        Returns:
            B answers, in the order of the requests.

        Raises:
            GoalRankError: a request that no model can rank (types, lacking inputs, constraints), a
                request id that is in use, or a store that refuses.
        """
        return run_blocking(self._rank(bodies, arrived))

    async def rank_async(
        self, bodies: Sequence[RankBody], arrived: float | None = None
    ) -> list[Answer]:
        """Do what `rank` does, without blocking the event loop or a thread per waiting request."""
        return await run_async(self._rank(bodies, arrived))

    def _span(self, name: str, **attributes: int) -> AbstractContextManager[None]:
        return _NO_SPAN if self.tracing is None else self.tracing.span(name, **attributes)

    def _rank(self, bodies: Sequence[RankBody], arrived: float | None) -> PendingWork[list[Answer]]:
        with self._span("rank", requests=len(bodies)):
            arrived = perf_counter() if arrived is None else arrived
            end = arrived + self.deadline
            now = datetime.now(UTC)
            ahead: Sequence[float | None] = [None] * len(bodies)
            filler = self._filler
            if self.keeper and filler and not lacks_nothing(bodies, self.keeper):
                filling = filler.submit(bodies)
                yield filling, None
                filled = filling.result()
                bodies, ahead, now = filled.bodies, filled.ahead, filled.now
            requests = [self._request_jobs(body, now) for body in bodies]
            jobs = [job for request in requests for job in request.jobs]
            for job in jobs:
                job.arrived = arrived
            futures = [self._submit(job) for job in jobs]
            self.metrics.queue.set(self._batcher.waiting)
            ranked = []
            for job, future in zip(jobs, futures):
                ranked.append((yield from self._list_in_time(job, future, end)))
            if self.tracing is not None:
                self.tracing.add_steps([step for job in jobs for step in list(job.steps)])
            lists = iter(ranked)
            shown = [shown_list(each, [next(lists) for _ in each.jobs]) for each in requests]
            logged = yield from self._store_exposures(shown, end)
            answers = [answer_of(job, each, logged) for job, each in shown]
            for answer, seconds in zip(answers, ahead, strict=True):
                answer.state_ahead = seconds
                self.metrics.count_filled(answer.filled)
                answer.state_age = None if self.keeper is None else self.keeper.age(now)
            return answers

    def _submit(self, job: RankJob) -> Future[Ranked] | None:
        try:
            return (self._large_batcher if job.large else self._batcher).submit(job)
        except OverloadError:
            return None

    def _rank_large(self, jobs: Sequence[RankJob]) -> list[Ranked]:
        try:
            return self._rank_batch(jobs)
        finally:
            release_memory()

    def _request_jobs(self, body: RankBody, now: datetime) -> RequestJobs:
        """Make the jobs of one request: one, or two if an interleaving experiment runs."""
        request_id = body.request_id or _new_request_id(now)
        label, folder = self.experiments.assign(body.user_id, request_id)
        interleaving = self.experiments.interleaving(body.user_id, request_id)
        names = (folder,) if interleaving is None else interleaving.bundles
        jobs = [self._job(body, request_id, now, name or DEFAULT, label) for name in names]
        if interleaving is None:
            return RequestJobs(jobs)
        if not all(job.predictor.rules.hold_for_drafts for job in jobs) or not (
            body.rules is None or body.rules.hold_for_drafts
        ):
            # Two lists that obey a constraint can be drafted into one that does not.
            return RequestJobs(jobs[:1])
        return RequestJobs(jobs, interleaving.experiment)

    def _job(
        self, body: RankBody, request_id: str, now: datetime, name: str, experiment: str | None
    ) -> RankJob:
        predictor = self._bundles.predictors[name]
        check_body(body, predictor)
        missing = body.missing or predictor.missing
        row, filled = predictor.completed(body.row(request_id, now), missing)
        slots = body.slots or predictor.slots
        return RankJob(
            predictor, row, slots, body.rules, experiment, predictor.name, missing, filled
        )

    def _list_in_time(
        self, job: RankJob, future: Future[Ranked] | None, end: float
    ) -> PendingWork[Ranked]:
        """Wait for the model's list; give the retriever's order if it fails or is late."""
        reason = "overload"
        if future is not None:
            yield future, max(end - perf_counter(), 0.0)
            try:
                ranked = future.result(0)
                if not math.isnan(ranked.log_prob):
                    return ranked
                _LOG.error(
                    "the model gave no numbers for request '%s'; serving the retriever's order",
                    ranked.request_id,
                )
                reason = "failure"
            except GoalRankError:
                raise  # the request cannot be ranked
            except TimeoutError:
                future.cancel()
                reason = "deadline"
            except Exception:
                _LOG.exception("the model failed; serving the retriever's order")
                reason = "failure"
        self.metrics.degraded.labels(reason).inc()
        # In another thread: constraints can take long, and the batcher may be what is late.
        fallback = self._fallback_pool.submit(
            job.predictor.fallback, [job.row], job.slots, rules=[job.rules]
        )
        yield fallback, None
        return fallback.result()[0]

    def _rank_batch(self, jobs: Sequence[RankJob]) -> list[Ranked]:
        """Rank jobs; those with the same predictor, length and layout are ranked together."""
        now = perf_counter()
        for job in jobs:
            self.metrics.queue_seconds.observe(now - job.arrived)
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, job in enumerate(jobs):
            scored = job.row["candidate_score"] is not None
            layout = (id(job.predictor), job.slots, scored, job.missing)
            groups.setdefault(layout, []).append(i)
        out: dict[int, Ranked] = {}
        for rows in groups.values():
            part = [jobs[i] for i in rows]
            with record_times(self.tracing is not None) as steps:
                lists = part[0].predictor.rank(
                    [job.row for job in part], part[0].slots,
                    rules=[job.rules for job in part], missing=part[0].missing,
                )  # fmt: skip
            for job in part:
                job.steps.extend(steps)
            out.update(zip(rows, lists))
        return [out[i] for i in range(len(jobs))]

    def _store_exposures(
        self, shown: Sequence[tuple[RankJob, Ranked]], end: float
    ) -> PendingWork[bool]:
        """Store the lists; False if they were not stored and are served all the same.

        Args:
            shown: the lists.
            end: of the deadline; a list that may be served without being stored waits no longer.
        """
        for _, each in shown:
            if not each.degraded and not math.isnan(each.log_prob):
                self.metrics.surprise.observe(-each.log_prob)
        if self.store is None:
            return False
        exposures = [exposure_of(job, each) for job, each in shown]
        try:
            with self._span("store", exposures=len(exposures)):
                yield from self._stored(self.store.submit(exposures), end)
        except StoreError as error:
            self.metrics.unlogged.inc(len(shown))
            self.metrics.store_failures.labels(error.code).inc()
            if self.on_store_failure == "fail":
                raise
            _LOG.error("serving a list that was not stored: %s", error)
            return False
        return True

    def _stored(self, write: Write, end: float) -> PendingWork[None]:
        """Wait until exposures are on disk; they are withdrawn if nobody waits any longer."""
        seconds = self.store_timeout
        if self.on_store_failure == "serve-unlogged":
            seconds = min(seconds, max(end - perf_counter(), self.deadline / 4))
        began = perf_counter()
        try:
            yield write.done, seconds
            self.metrics.store_seconds.observe(perf_counter() - began)
        except GeneratorExit:
            write.withdraw()
            raise
        confirm(write)

    def feedback(self, events: Sequence[Event]) -> FeedbackCounts:
        """Store feedback of users.

        Args:
            events: the feedback; all events are stored or none.

        Returns:
            How many events were new, repeated or replaced another value.

        Raises:
            ConfigError: a feedback type that no model of this store knows, a value outside its range,
                or a server without a store.
            UnknownRequestError: a request or item that was not shown.
            StoreError: the store refuses.
        """
        return run_blocking(self._feedback(events))

    async def feedback_async(self, events: Sequence[Event]) -> FeedbackCounts:
        """Do what `feedback` does, without blocking the event loop or a thread per waiting caller."""
        return await run_async(self._feedback(events))

    def _feedback(self, events: Sequence[Event]) -> PendingWork[FeedbackCounts]:
        if self.store is None:
            raise ConfigError("this server keeps no store; remedy: option: store")
        check_feedback(events, self._bundles.feedback_ranges)
        try:
            with self._span("feedback", events=len(events)):
                stored = self._feedback_writer.submit(events)
                yield stored, self.store_timeout
                if not stored.done():
                    stored.cancel()
                    raise StoreError(
                        "the store did not confirm in time; remedy: send the feedback again, which "
                        "changes nothing where it was stored; option: store_timeout"
                    )
                counts = stored.result()
                self.metrics.model.count_feedback(events, counts.stored / len(events))
                return counts
        except StoreError as error:
            self.metrics.store_failures.labels(error.code).inc()
            raise

    def _write_feedback(self, jobs: Sequence[Sequence[Event]]) -> list[FeedbackCounts]:
        store = self.store
        return [] if store is None else [store.feedback(events) for events in jobs]

    def close_first(self, queue: Batcher[Any, Any] | Filler) -> None:
        """Have a queue, whose jobs go on to ranking, finished and stopped before the others.

        Args:
            queue: the queue.
        """
        self._before_ranking.append(queue)

    def faults(self) -> list[Fault]:
        """Say what is wrong with this server now."""
        found = [Fault("the server is draining", fatal=True)] if self.draining else []
        broken = None if self._probe is None else self._probe.fault
        if broken is not None:
            found.append(Fault(broken, fatal=self.on_store_failure == "fail"))
        said = [] if self.keeper is None else self.keeper.faults
        found += [Fault(text, fatal=False) for text in (*said, *self._bundles.faults.values())]
        return found

    def close(self) -> None:
        """Finish the waiting requests, then close the store; nothing is waited for without limit."""
        self.draining = True
        for queue in (
            *self._before_ranking,
            self._batcher,
            self._large_batcher,
            self._feedback_writer,
        ):
            queue.close(_CLOSE_S)
        self._fallback_pool.shutdown(wait=False, cancel_futures=True)
        if self._probe is not None:
            self._probe.close()
        if self.keeper is not None:
            self.keeper.close()
        if self.store is not None:
            self.store.close()
        if self.tracing is not None:
            self.tracing.close()


def _new_request_id(now: datetime) -> str:
    """Make a unique request id; ids sort by time, so that a database index grows at its end."""
    return f"{int(now.timestamp() * 1e6):016x}{secrets.token_hex(8)}"
