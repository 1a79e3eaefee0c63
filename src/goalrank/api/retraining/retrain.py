"""`retrain`: export, train, judge, register and promote, once for any data."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from goalrank.api.model import Model, fit, learnt_beside
from goalrank.api.retraining.data_checks import LEAD, check_data, check_lead
from goalrank.api.retraining.judge import CHALLENGER, CHAMPION, Judgement, judge
from goalrank.api.retraining.pool import Pool, export_new, read_pool
from goalrank.api.retraining.recipe import choose_recipe
from goalrank.api.retraining.settings import RetrainSettings
from goalrank.api.retraining.window import Window, choose_window
from goalrank.bundles import Bundle
from goalrank.errors import ConfigError, MissingExtraError
from goalrank.logs import LearntRetrieval
from goalrank.models import (
    DataRange,
    Figure,
    ModelRegistry,
    Reason,
    Version,
    source_digest,
)
from goalrank.requests import Requests
from goalrank.storage import Claim, Place, local_path
from goalrank.training import FitConfig, PerStage
from goalrank.wording import counted

Outcome = Literal["nothing new", "known", "refused", "registered", "promoted", "dry run"]
_LOCK = ".retrain.lock"


@dataclass(frozen=True)
class Retrained:
    """What a retraining did.

    Attributes:
        outcome: "nothing new": too few new requests; "known": a version of the same data, settings
            and code is there; "refused": the gate turned the challenger down; "registered": it
            passed and was not promoted; "promoted"; "dry run": nothing was kept.
        version: the new version, or the known one.
        accepted: the gate's decision; None where nothing was judged.
        figures, reasons: of the gate.
        said: sentences for people.
    """

    outcome: Outcome
    version: Version | None = None
    accepted: bool | None = None
    figures: tuple[Figure, ...] = ()
    reasons: tuple[Reason, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def turned_down(self) -> bool:
        """Whether the gate refuses these data, now or when they were judged; not if forced since."""
        state = None if self.version is None else self.version.state
        return self.accepted is False and state in (None, "refused")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "outcome": self.outcome,
            "version": None if self.version is None else self.version.number,
            "accepted": self.accepted,
            "figures": [figure.model_dump() for figure in self.figures],
            "reasons": [reason.model_dump() for reason in self.reasons],
            "said": list(self.said),
        }


@dataclass
class _Run:
    """One retraining under way."""

    registry: ModelRegistry
    pool: Pool
    settings: RetrainSettings
    config: FitConfig
    say: Callable[[str], None]
    begin: Callable[[str], None] = lambda text: None
    said: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fit_options: dict[str, Any] = field(default_factory=dict)
    store: str | None = None
    learnt: LearntRetrieval | None = None

    def tell(self, text: str) -> None:
        """Say a sentence now, and in the result."""
        self.said.append(text)
        self.say(text)

    def note(self, text: str) -> None:
        """Tell a sentence that the version keeps."""
        self.notes.append(text)
        self.tell(text)


def retrain(
    data: Place,
    models: Place,
    store: str | None = None,
    *,
    settings: RetrainSettings | None = None,
    config: FitConfig | str | Path | None = None,
    until: datetime | None = None,
    wait: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda text: None,
    begin: Callable[[str], None] = lambda text: None,
    **fit_options: Any,
) -> Retrained:
    """Train a challenger on what is new, judge it, register it and promote it if the gate passes.

    Two calls on the same data make one version. The challenger is trained afresh, by the champion's
    recipe: new data have new ids, and a job starts from random (or linear) weights.

    Args:
        data: folder of `goalrank data import`; what is exported goes to its folder `served`.
        models: folder of the model registry; made where it does not exist.
        store: address of the server's store, whose new exposures are exported first; None trains on
            what is in `data`.
        settings: of the retraining; None takes the defaults.
        config: recipe; None takes the champion's, or the default one where there is none. The settings'
            `recipe` is laid over it.
        until: export exposures before this time only; None up to now.
        wait: wait for another retraining of the same models instead of refusing.
        dry_run: train and judge, but write neither data nor models.
        say: told what happens.
        begin: told of each stage as it begins.
        **fit_options: of `fit`: progress, accelerator and the like.

    Raises:
        ConfigError: another retraining works on the same models, settings that cannot be used, or a
            champion of which nobody knows what it was trained on.
        DataError: the data cannot be one table, or the disk refuses.
        StoreError: the store refuses.
    """
    settings = settings or RetrainSettings()
    folder, registry = local_path(data, "data"), ModelRegistry(models)
    # A fault of the recipe or of the store's address is said before anything is exported.
    choose_recipe(config, settings, registry.champion)
    if store is not None:
        _check_store(store)
    with _alone(registry, wait, dry_run), tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) if dry_run else folder
        said = []
        if store is not None:
            begin("exporting what is new in the store")
            said.append(_export(store, exported, folder, until, settings))
            say(said[0])
        begin("reading the data")
        folders = [folder, exported] if dry_run else [folder]
        pool = read_pool(folders, base=settings.base, exclude=settings.exclude)
        chosen, source = choose_recipe(config, settings, registry.champion)
        run = _Run(
            registry, pool, settings, chosen, say, begin, fit_options={"progress": False, **fit_options},
            said=said, notes=list(pool.notes), store=store, learnt=learnt_beside(folder),
        )  # fmt: skip
        for text in (*pool.said, *source):
            run.tell(text)
        if not dry_run and registry.settle():
            run.tell("a promotion that was killed is finished: servers follow it from now on")
        return _retrain(run, dry_run)


@contextmanager
def _alone(registry: ModelRegistry, wait: bool, dry_run: bool) -> Iterator[None]:
    """Hold the registry's retraining; a dry run writes nothing and needs no lock."""
    claim = Claim(registry.folder / _LOCK)
    if not dry_run and not claim.take(wait=wait):
        raise ConfigError(
            f"another retraining works on '{registry.folder}'; remedy: let it finish, or --wait; "
            f"option: wait"
        )
    try:
        yield
    finally:
        claim.drop()


def _export(
    store: str, target: Path, data: Path, until: datetime | None, settings: RetrainSettings
) -> str:
    """Export what is new; a dry run exports to a folder that is thrown away."""
    from goalrank.serving import Store

    settle = timedelta(minutes=settings.settle_minutes)
    with Store(store) as opened:
        count = export_new(
            opened, target, until=until, settle=settle, after=data, base=settings.base
        )
    young = f"; those of the last {settings.settle_minutes:g} minutes wait for their feedback"
    wait = young if not count and settings.settle_minutes else ""
    return f"{counted(count, 'new request')} exported from the store{wait}"


def _check_store(url: str) -> None:
    """Refuse a SQLite file that is not there: opening it would make an empty one.

    Raises:
        ConfigError: no such file.
    """
    name = url.removeprefix("sqlite:///").partition("?")[0]
    if name != url and name and not Path(name).exists():
        raise ConfigError(
            f"store '{url}' does not exist; remedy: the address that the server has, or none to "
            f"train on what is in the data folder; option: store (GOALRANK_STORE)"
        )


def _retrain(run: _Run, dry_run: bool) -> Retrained:
    registry, pool = run.registry, run.pool
    champion = registry.champion
    known = registry.find(_key(run))
    if known is not None:
        return _known(run, known)
    window = choose_window(
        pool.times, run.settings.window, trained=_trained(champion), judged=_judged(run)
    )
    if isinstance(window, str):
        run.tell(f"nothing to train on: {window}")
        return Retrained("nothing new", said=tuple(run.said))
    model, trained = _train(run, window)
    run.begin("judging the challenger")
    judged, judgement = _judge(run, window, model, champion)
    failed = {reason.check for reason in judgement.reasons if reason.passed is False}
    passed = [r.check for r in judgement.reasons if r.passed and r.check not in failed]
    for reason in judgement.reasons:
        if not reason.passed:
            run.tell(f"{_MARK[reason.passed]} {reason.check}: {reason.said}")
    run.tell(f"passed: {', '.join(dict.fromkeys(passed)) or 'nothing'}")
    for reason in judgement.reasons:
        if reason.check in judgement.lower:
            run.tell(f"passed, though lower, {reason.check}: {reason.said}")
    version = None
    outcome: Outcome = "dry run"
    if dry_run:
        run.tell("dry run: nothing was registered")
    else:
        run.begin("registering the version")
        version = _register(run, model, trained, judged, judgement, champion)
        outcome = _promote(run, version)
        version = registry.get(version.number)  # where it stands now
    return Retrained(
        outcome, version, judgement.accepted, tuple(judgement.figures), tuple(judgement.reasons),
        tuple(run.said),
    )  # fmt: skip


def _known(run: _Run, version: Version) -> Retrained:
    """What to do with a version of the same data: nothing, or what a killed run did not come to."""
    run.tell(f"version {version.number} ({version.state}) was made of these data already")
    outcome: Outcome = "known"
    moved = any(move.version == version.number for move in run.registry.history().moves)
    if version.record.accepted and not moved and run.settings.promote != "no":
        outcome = _promote(run, version)
        outcome = "known" if outcome == "registered" else outcome
        version = run.registry.get(version.number)
    return Retrained(outcome, version, version.record.accepted, said=tuple(run.said))


def _register(
    run: _Run, model: Model, trained: DataRange, judged: DataRange, judgement: Judgement,
    champion: Version | None,
) -> Version:  # fmt: skip
    return run.registry.add(
        model, key=_key(run), method=_method(run), trained=trained, judged=judged, accepted=judgement.accepted,
        parent=None if champion is None else champion.number,
        settings=run.settings.model_dump(mode="json"),
        recipe=run.config.model_dump(mode="json"), figures=tuple(judgement.figures),
        reasons=tuple(judgement.reasons), note="; ".join(run.notes),
    )  # fmt: skip


_MARK = {False: "REFUSED", None: "not checked"}


def _method(run: _Run) -> str:
    """Digest of how a version is made: settings, recipe and code."""
    return _digest(
        settings=run.settings.model_dump(mode="json"),
        recipe=run.config.model_dump(mode="json"),
        code=source_digest(),
    )


def _key(run: _Run) -> str:
    """Digest of what makes a version: the data, and how it is made."""
    _, everything = run.pool.part(0, len(run.pool))
    return _digest(data=everything.digest, method=_method(run))


def _digest(**facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _trained(champion: Version | None) -> datetime | None:
    if champion is None:
        return None
    if champion.record.trained is None:
        raise ConfigError(
            f"nobody knows what version {champion.number} was trained on, so no request is known to "
            f"be new to it; remedy: add it again with the time of its last training request "
            f"(goalrank models add --trained-to)"
        )
    return champion.record.trained.last


def _judged(run: _Run) -> datetime | None:
    """Time of the last request that a version of these settings was judged on."""
    method = _method(run)
    alike = [v.record for v in run.registry.versions() if v.record.method == method]
    return max((r.judged.last for r in alike if r.judged is not None), default=None)


def _train(run: _Run, window: Window) -> tuple[Model, DataRange]:
    """Train on the requests before the window; the latest of them stop the training."""
    start = _oldest(run, window)
    _, trained = run.pool.part(start, window.start)
    held = int(run.settings.validation * (window.start - start))
    train, _ = run.pool.part(start, window.start - held)
    validation = run.pool.part(window.start - held, window.start)[0] if held else None
    run.tell(
        f"training afresh on {counted(trained.requests, 'request')}, {trained.first:%Y-%m-%d %H:%M} to "
        f"{trained.last:%Y-%m-%d %H:%M} (the last {held:,} stop it); judging on "
        f"{window.end - window.start:,} after them"
    )
    # Without it a server that keeps state could not compute the linked features, or retrieve.
    options = {"learnt": _refreshed(run), "say": run.tell, **run.fit_options}
    options["callbacks"] = _announced(run, options.get("callbacks", ()))
    run.begin("encoding the requests and training")
    return fit(train, validation, config=run.config, **options), trained


def _announced(run: _Run, callbacks: PerStage[Any]) -> PerStage[Any]:
    """Callbacks of the training; that they are asked for says which stage begins."""

    def of_stage(stage: str) -> Any:
        run.begin(f"training {stage}")
        return callbacks(stage) if callable(callbacks) else callbacks

    return of_stage


def _refreshed(run: _Run) -> LearntRetrieval | None:
    """What retrieval learns from the store's events up to the newest request.

    The features of requests are as they were served, so that nothing is judged by it.
    """
    if run.store is None or run.learnt is None:
        return run.learnt
    from goalrank.serving import Store, refreshed_retrieval

    run.begin("learning retrieval from the store's events")
    table, learnt, exclude = run.pool.table, run.learnt, run.settings.exclude
    until = table.frame["time"][-1]
    try:
        with Store(run.store) as opened:
            found = refreshed_retrieval(
                opened, table.info, learnt,
                until=until, side=table.items, exclude=exclude, say=run.note,
            )  # fmt: skip
    except (ConfigError, MissingExtraError) as error:
        run.note(f"retrieval stays as imported: {error}")
        return learnt
    new = (
        found.items["item_id"]
        .head(found.known)
        .is_in(learnt.items["item_id"].head(learnt.known).implode())
    )
    without = ", without those of the times that are left out" if exclude else ""
    run.tell(
        f"retrieval learnt anew from the store's events to {until:%Y-%m-%d %H:%M}{without}: "
        f"{counted(found.known, 'item')}, {int((~new).sum()):,} of them new"
    )
    if not learnt.every_refit:
        latest = datetime.fromtimestamp(learnt.refits[-1] / 1e6, UTC)
        run.note(
            f"retrieval was imported by goalrank 0.2.0, which kept its latest refit alone: popularity "
            f"and factors weigh the events before {latest:%Y-%m-%d %H:%M} alike, where an import lets "
            f"older ones fade; remedy: import the log again"
        )
    return found


def _oldest(run: _Run, window: Window) -> int:
    """First request that is trained on."""
    if run.settings.days is None:
        return 0
    newest = run.pool.times[window.start - 1]
    span = np.timedelta64(round(run.settings.days * 86400e6), "us")
    return int(np.searchsorted(run.pool.times, newest - span, side="left"))


def _judge(
    run: _Run, window: Window, model: Model, champion: Version | None
) -> tuple[DataRange, Judgement]:
    pool, gate = run.pool, run.settings.gate
    train, _ = pool.part(_oldest(run, window), window.start)
    table, judged = pool.part(window.start, window.end)
    bundles: dict[str, Bundle] = {CHALLENGER: model}
    if champion is not None:
        bundles[CHAMPION] = champion.load()
    found = judge(bundles, table, train, gate)
    found.reasons = [*_trust(run, window, train, champion), *found.reasons]
    return judged, found


def _trust(run: _Run, window: Window, train: Requests, champion: Version | None) -> list[Reason]:
    """Check the feedback of every new span: the champion was trained on none of them."""
    pool, gate = run.pool, run.settings.gate
    past = pool.part(0, window.known)[0] if window.known else train
    lead = None if champion is None else champion.record.figure(f"{CHALLENGER} {LEAD}")
    bundle = None if champion is None else champion.load()
    reasons = []
    spans = window.spans(pool.times, run.settings.window) if window.known else []
    for start, end in spans or [(window.start, window.end)]:
        table, span = pool.part(start, end)
        what = f"{span.first:%Y-%m-%d %H:%M} to {span.last:%Y-%m-%d %H:%M}"
        reasons += check_data(past, table, gate, what)
        if bundle is not None:
            before = None if lead is None else lead.value
            reasons.append(check_lead(bundle, table, gate, before, what))
    return reasons


def _promote(run: _Run, version: Version) -> Outcome:
    record, registry = version.record, run.registry
    if not record.accepted:
        failed = dict.fromkeys(each.check for each in record.reasons if each.passed is False)
        run.tell(
            f"version {version.number} is refused ({', '.join(failed)}); the champion stays. If the "
            f"data are at fault, leave their time out (setting: exclude)"
        )
        return "refused"
    if run.settings.promote == "no":
        run.tell(f"version {version.number} passed the gate; goalrank models promote serves it")
        return "registered"
    now = None if registry.champion is None else registry.champion.number
    if now != record.parent:
        run.tell(
            f"version {version.number} passed the gate against {_name(record.parent)}, but "
            f"{_name(now)} is the champion by now, so it is not promoted; remedy: goalrank models "
            f"promote {version.number}, if it is the better one"
        )
        return "registered"
    pointer: Literal["champion", "canary"] = "champion" if now is None else run.settings.promote
    registry.promote(version.number, pointer=pointer, reason="the gate passed")
    run.tell(f"version {version.number} passed the gate and is the {pointer}")
    return "promoted"


def _name(version: int | None) -> str:
    return "no champion" if version is None else f"version {version}"
