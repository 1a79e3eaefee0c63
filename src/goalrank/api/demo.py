"""The demo: shipped data in; a bundle, a table of results and a report out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch

from goalrank import evaluation as ev
from goalrank._version import __version__
from goalrank.api.model import Model, fit
from goalrank.api.reward_reports import fit_itemwise, reward_report
from goalrank.api.scorecard import Scorecard, audit_dict, find_baselines, score
from goalrank.api.unfinished_demo import UnfinishedDemo
from goalrank.errors import ConfigError
from goalrank.evaluation import Evaluation
from goalrank.features import feature_meanings
from goalrank.logs import import_log, write_import
from goalrank.rankers import BestOf, Ranker, RetrieverOrder
from goalrank.recipes import DEFAULT, recipe_path
from goalrank.reporting import (
    Example,
    Report,
    choose_rows,
    find_moves,
    make_examples,
    write_report,
)
from goalrank.requests import Requests
from goalrank.serving import Examples
from goalrank.storage import json_text, write_text
from goalrank.training import FitConfig, Job, load_config
from goalrank.wording import counted

Say = Callable[[str], None]


@dataclass(frozen=True)
class Demo:
    """A shipped data set and its settings in the demo."""

    source: str
    protocol: str
    title: str


DEMOS = {
    "kuairand": Demo("kuairand", "exposed", "KuaiRand: short-video lists"),
    "movielens-small": Demo("movielens", "retrieved", "MovieLens (small): films"),
}
# To compare with, and so that a first look takes a minute; all else is the default recipe.
_SETTINGS = (
    "light=['prm']",
    *(
        f"{loop}.{name}"
        for loop in ("light_loop", "reward.loop")
        for name in ("steps=200", "validate_every=100")
    ),
    "training.steps=100",
    "training.validate_every=50",
)
# Baselines with their own row in the results: name in the audit → name there.
_ROWS = {"retriever order": "retriever", "popularity": "popularity"}


@dataclass
class _Run:
    """What the seeds gave so far."""

    models: list[Model] = field(default_factory=list)
    baselines: dict[str, Ranker] = field(default_factory=dict)
    trained: list[Evaluation] = field(default_factory=list)
    rewards: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    resumed: bool = False

    @contextmanager
    def clock(self, name: str) -> Any:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run_demo(
    dataset: str = "kuairand",
    out: str | Path = "demo-out",
    *,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
    say: Say = lambda text: None,
) -> tuple[dict[str, Any], Scorecard]:
    """Import, train, evaluate, audit and report; see `DEMOS`.

    A demo that was stopped goes on: imported data, finished stages and checkpoints are taken over.
    One that ended, or was asked for something else, starts afresh.

    Args:
        dataset: one of `DEMOS`.
        out: folder for data/, run/, bundle/, results.json and report.html; replaced file by file.
        seeds: trainings; numbers are means over them, the bundle is the first's.
        overrides: settings such as "training.steps=100".
        overwrite: start afresh also where a stopped demo could go on.
        progress: show progress bars.
        say: told what comes next.

    Returns:
        what results.json holds, and the means over seeds as a scorecard.

    Raises:
        ConfigError: an unknown data set, or a setting that cannot be used.
    """
    if dataset not in DEMOS:
        raise ConfigError(
            f"demo dataset '{dataset}' is unknown; known: {', '.join(DEMOS)}; option: --dataset"
        )
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}, but must be at least 1; option: --seeds")
    demo, folder, run = DEMOS[dataset], Path(out), _Run()
    config = load_config(recipe_path(DEFAULT), [*_SETTINGS, *overrides])
    unfinished = UnfinishedDemo(folder, _asked(dataset, config))
    run.resumed = unfinished.goes_on(overwrite, say)
    with run.clock("total"):
        with run.clock("import"):
            train, validation, test = _data(dataset, folder / "data", run.resumed, say)
        unfinished.begin()
        for i in range(seeds):
            seeded = config.model_copy(update={"seed": config.seed + i})
            say(f"training, seed {seeded.seed} …")
            place = folder if i == 0 else folder / "run" / f"seed-{seeded.seed}"
            # Stages that are there are this demo's: others' were removed.
            model = fit(
                train, validation, config=seeded, out=place, resume=True, progress=progress, say=say
            )
            if i == 0:  # the data are public, so the bundle may carry some for the server's page
                model.examples = choose_examples(test)
                model.save(folder / "bundle", overwrite=True)
                _write_json(folder / "request.json", example_body(model.examples))
            _measure(run, model, test, seeded.seed, say)
        card = _scorecard(run, test, say)
    results = _results(dataset, demo, run, card)
    _write_json(folder / "results.json", results)
    write_report(_report(demo, run, card, test), folder / "report.html")
    unfinished.end()
    return results, card


def _asked(dataset: str, config: FitConfig) -> dict[str, Any]:
    """All that results follow from but the number of seeds: more of them leave the first as it is."""
    return {
        "dataset": dataset,
        "settings": config.model_dump(mode="json"),
        "version of goalrank": __version__,
        "version of torch": torch.__version__,
    }


def _data(
    dataset: str, folder: Path, resumed: bool, say: Say
) -> tuple[Requests, Requests, Requests]:
    """Training, validation and test requests; imported, unless a stopped demo has done that."""
    if resumed:
        say(f"going on with the demo that was stopped; its data are taken over from {folder}")
    else:
        say(f"importing {dataset} …")
        demo = DEMOS[dataset]
        write_import(import_log(demo.source, None, {"protocol": demo.protocol}), folder)
    train, validation, test = (
        Requests.read(folder / f"{part}.parquet", allow_empty=True)
        for part in ("train", "validation", "test")
    )
    return train, validation, test


def choose_examples(table: Requests, count: int = 50, *, seed: int = 0) -> Requests:
    """Random requests with a history and a positive, and the items table for titles."""
    frame = table.frame
    liked = table.relevance().list.max().fill_null(0.0) > 0
    good = np.flatnonzero((liked & (frame["history"].list.len() > 2)).to_numpy())
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(good, min(count, len(good)), replace=False))
    return Requests(table.take(rows).frame, items=table.items, info=table.info)


def example_body(examples: Requests) -> dict[str, Any]:
    """The first example as a body of `POST /v1/rank`, by the request id "first"."""
    offered = Examples(examples)
    user = offered.users("", 1)[0]["user"]
    found = offered.request(user, 0, datetime.now(UTC)) or {}
    return {"request_id": "first", **found["request"]}


def _measure(run: _Run, model: Model, test: Requests, seed: int, say: Say) -> None:
    """Evaluate one seed's rankers and its reward model."""
    job = cast(Job, model.job)  # the model was fitted just now
    slots = model.config.slots
    for stage, seconds in model.fitted.seconds.items():
        run.seconds[stage] = run.seconds.get(stage, 0.0) + seconds
    columns = model.encoder.encode(test)
    rankers = _rankers(model, seed)
    say(f"evaluating {', '.join(rankers)} on {counted(len(test), 'test request')} …")
    with run.clock("evaluation"):
        run.trained.append(ev.evaluate(rankers, columns, slots=slots))
    if model.reward is not None:
        say("judging the reward model …")
        with run.clock("reward-itemwise"):
            itemwise = fit_itemwise(job)  # the same job: it keeps its linear solutions
        with run.clock("reward-report"):
            run.rewards.append(
                reward_report(
                    model.reward,
                    columns,
                    slots=slots,
                    itemwise=itemwise,
                    proposer=_proposer(model),
                    seed=seed,
                )
            )
    run.models.append(model)


def _proposer(model: Model) -> Ranker:
    """The light model that proposes lists: the last of the recipe."""
    light = [name for name in model.rankers if name != model.config.name]
    return model.rankers[light[-1] if light else model.config.name]


def _rankers(model: Model, seed: int) -> dict[str, Ranker]:
    """The generator, which is named first where others are level, light models, best of 100 lists."""
    own = model.config.name
    rankers = {own: model.rankers[own], **model.rankers}
    if model.reward is not None:
        rankers["best_of_100"] = BestOf(
            [_proposer(model)], model.reward, lists=100, seed=seed, slots=model.config.slots
        )
    return rankers


def _scorecard(run: _Run, test: Requests, say: Say) -> Scorecard:
    """Means over seeds, and the baselines (which have no seed)."""
    model = run.models[0]
    job = cast(Job, model.job)  # the model was fitted just now
    columns = model.encoder.encode(test)
    say("auditing baselines …")
    with run.clock("audit"):
        run.baselines, notes = find_baselines(model.encoder, columns, job.train)
        return score(
            _mean(run.trained), run.baselines, columns, test, notes=notes, slots=model.config.slots
        )


def _mean(parts: Sequence[Evaluation]) -> Evaluation:
    """Each request's values averaged over seeds; intervals are then over requests, not seeds."""
    first = parts[0]
    values = {
        ranker: {m: np.mean([p.values[ranker][m] for p in parts], 0) for m in each}
        for ranker, each in first.values.items()
    }
    seconds = {r: float(np.mean([p.seconds[r] for p in parts])) for r in first.seconds}
    return replace(first, values=values, seconds=seconds)


def _results(dataset: str, demo: Demo, run: _Run, card: Scorecard) -> dict[str, Any]:
    trained = cast(Evaluation, card.trained)
    baselines = card.baselines.to_dict()
    rows: dict[str, Any] = {
        name: baselines[known] for known, name in _ROWS.items() if known in baselines
    }
    rows |= trained.to_dict()
    for name, each in trained.values.items():
        for metric in each:
            rows[name][metric]["per_seed"] = [
                float(np.nanmean(part.values[name][metric])) for part in run.trained
            ]
    return {
        "dataset": dataset,
        "protocol": demo.protocol,
        "warning": card.warning,
        "seeds": [model.train["seeds"][0] for model in run.models],
        "rankers": rows,
        "baselines": baselines,
        "audit": audit_dict(card.audit),
        "reward_model": _reward_model(run),
        "requests": trained.metadata(),
        "resumed": run.resumed,
        "seconds": {name: round(value, 2) for name, value in run.seconds.items()},
    }


def _reward_model(run: _Run) -> dict[str, Any]:
    """The first seed's report, and the figures of every seed."""
    if not run.rewards:
        return {}
    return {**run.rewards[0], "per_seed": [part["kinds"] for part in run.rewards]}


def _report(demo: Demo, run: _Run, card: Scorecard, test: Requests) -> Report:
    model = run.models[0]
    return Report.of(
        f"goalrank demo — {demo.title}",
        card.trained,
        card.baselines,
        card.audit,
        warning=card.warning,
        training=model.fitted.telemetry,
        reward_model=run.rewards[0] if run.rewards else {},
        meanings=feature_meanings(test.info.computed, test.info.candidate_features),
        examples=_examples(run, card, test),
        seconds=run.seconds,
        provenance={
            "goalrank": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "data": test.info.dataset,
            "training requests": model.train["requests"],
            "seeds": ", ".join(str(m.train["seeds"][0]) for m in run.models),
            **({"seconds": "since the demo went on after a stop"} if run.resumed else {}),
        },
    )


def _examples(run: _Run, card: Scorecard, test: Requests) -> list[Example]:
    """Five random requests: what each ranker shows, and what the generator lifts and why."""
    model, best = run.models[0], card.audit.baseline
    columns = model.encoder.encode(test)
    rows = choose_rows(cast(Evaluation, card.trained).rows.tolist(), 5)
    baseline = run.baselines[best]
    rankers = {best: baseline, **_rankers(model, 0)}
    if model.encoder.score is not None:
        rankers |= {"retriever": RetrieverOrder()}
    frame, generator, slots = test.frame, model.config.name, model.config.slots
    return make_examples(
        rankers,
        columns,
        rows,
        candidates={row: frame["candidates"][row].to_list() for row in rows},
        histories={row: frame["history"][row].to_list() for row in rows},
        names={row: f"request {frame['request_id'][row]}" for row in rows},
        titles=_titles(test.items),
        slots=slots,
        reward=model.reward,
        moves=find_moves(
            (generator, rankers[generator]), (best, baseline), model.encoder, columns, rows, slots
        ),
    )


def _titles(items: pl.DataFrame | None) -> dict[Any, str]:
    """Item id → its title; where items have none, its id and its categories."""
    if items is None:
        return {}
    if "title" in items.columns:
        return dict(items.select("item_id", "title").iter_rows())
    told = [pl.format("Item {}", "item_id")]
    for name, kind in items.schema.items():
        if kind == pl.List(pl.String):
            said = pl.format("{} {}", pl.lit(name), pl.col(name).list.join(", "))
            told.append(pl.when(pl.col(name).list.len() > 0).then(said))
    title = pl.concat_str(told, separator=", ", ignore_nulls=True).alias("title")
    return dict(items.select("item_id", title).iter_rows())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json_text(content) + "\n")
