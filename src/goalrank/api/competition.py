"""`compete`: train a line-up within a time budget, and choose on validation."""

from __future__ import annotations

import importlib.util
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from goalrank import evaluation as ev
from goalrank.api.model import Model, check_free, model_of, recipe_source
from goalrank.api.scorecard import find_baselines
from goalrank.encoders import add_tree_scores
from goalrank.errors import ConfigError
from goalrank.evaluation import Comparison, Difference, Evaluation
from goalrank.logs import LearntRetrieval
from goalrank.rankers import LinearScores, Ranker
from goalrank.reporting import evaluation_table
from goalrank.requests import Encoder, Requests
from goalrank.storage import json_text, local_path, write_text
from goalrank.training import FitConfig, Job, RunOptions, label_leaks, load_config
from goalrank.wording import counted, signed

Say = Callable[[str], None]
_SIMPLEST_FIRST = ("linear", "lambdamart", "prm", "goalrank")
_SHARES = {"prm": 0.25, "reward": 0.5, "goalrank": 1.0}  # of the time left when a stage begins
_LEAST = {"lambdamart": 20.0, "prm": 10.0, "goalrank": 20.0}  # seconds left for a row to begin
_TOLD = {"above": "exceeds", "below": "is below", "level": "is level with"}
_NORMAL = 3.92  # width of a 95 % interval in standard errors


@dataclass(frozen=True)
class Competition:
    """A line-up, measured on validation, and what was chosen.

    Attributes:
        model: the winner, ready to be saved and served.
        winner: its name.
        evaluation: trained rankers and baselines on the validation requests.
        metric: what was compared, such as "ndcg@6".
        left_out: name → why a ranker was not trained.
        seconds: name of a stage → seconds.
        verdict: sentences for people, the most important first.
    """

    model: Model
    winner: str
    evaluation: Evaluation
    metric: str
    left_out: Mapping[str, str]
    seconds: Mapping[str, float]
    verdict: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "winner": self.winner,
            "metric": self.metric,
            "verdict": list(self.verdict),
            "rankers": self.evaluation.to_dict(),
            "left_out": dict(self.left_out),
            "seconds": dict(self.seconds),
            "metadata": self.evaluation.metadata(),
        }

    def __str__(self) -> str:
        table = evaluation_table(self.evaluation, [self.metric]).markdown()
        return "\n".join([table, "", *self.verdict])


@dataclass
class _Clock:
    """Time left of a budget in seconds."""

    budget: float
    start: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        return self.budget - (time.monotonic() - self.start)


def compete(
    train: Requests,
    validation: Requests,
    *,
    budget: float = 600.0,
    config: FitConfig | str | Path | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    metric: str = "ndcg",
    bootstrap: int = 1000,
    out: str | Path | None = None,
    progress: bool = True,
    overwrite: bool = False,
    accelerator: str = "auto",
    learnt: LearntRetrieval | None = None,
    say: Say = lambda text: None,
) -> Competition:
    """Train linear, trees, PRM and GoalRank within a budget, and choose the one to deploy.

    The choice is made on the validation requests: the simplest ranker that the best one does not
    exceed by more than one standard error of their paired difference (users drawn whole). Its lead
    over the best baseline and over the others is said with 95 % intervals.

    Args:
        train: requests with feedback.
        validation: later requests with feedback; they decide.
        budget: seconds for all of it, above 0; a stage of a network stops when its share is over.
        config: settings of the networks; None takes the defaults.
        overrides: settings that replace those of `config`.
        metric: what decides.
        bootstrap: resamples of the intervals.
        out: folder for `run/`, `bundle/` and `compete.json`; None keeps nothing on disk.
        progress: show progress bars.
        overwrite: start again in `out`, even if it holds a job or bundle.
        accelerator: passed to Lightning.
        learnt: what the import of `train` learnt; the bundle keeps it, see `learnt_beside`.
        say: told what comes next.

    Raises:
        ConfigError: a budget of 0 or below, settings that cannot be used, or no feature to learn
            from and a budget that is too short for a network.
        BundleError: `out` holds a bundle or a job already.
        DataError: no validation request has a positive.
    """
    if not budget > 0:
        raise ConfigError(f"budget {budget:g} s must be above 0; option: --budget")
    out = None if out is None else local_path(out, "out")
    settings = load_config(recipe_source(config), overrides)
    settings = settings.model_copy(update={"light": ("linear", "prm")})
    if out is not None:
        check_free(out, overwrite)
    clock = _Clock(budget)
    with tempfile.TemporaryDirectory(prefix="goalrank-") as scratch:
        folder = Path(scratch) if out is None else out / "run"
        options = RunOptions(folder, progress=progress, accelerator=accelerator, devices=1)
        encoder = Encoder.fit(train, settings.encoder)
        folds = settings.encoder.tree_folds
        encoder, columns, note = add_tree_scores(
            encoder, encoder.encode(train), folds=folds, seed=settings.seed
        )
        say(note)
        job = Job(encoder.spec, columns, encoder.encode(validation), settings, options)
        _measured({}, job, metric, bootstrap)  # what cannot be compared is refused before training
        leaks = label_leaks(train.info.candidate_features, columns, job.validation)
        for sentence in (*job.rules, *leaks):
            say(sentence)
        left_out = _train_all(job, clock, say)
    if not job.fitted.rankers:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise ConfigError(f"nothing was trained ({reasons}); option: --budget")
    say("comparing on validation")
    result = _choose(job, encoder, train, metric, bootstrap, left_out)
    result.model.learnt = learnt
    if out is not None:
        result.model.save(out / "bundle", overwrite=True)
        write_text(out / "compete.json", json_text(result.to_dict()))
    return result


def _train_all(job: Job, clock: _Clock, say: Say) -> dict[str, str]:
    """Train the rows that the time allows; name those that were left out, with the reason."""
    left_out: dict[str, str] = {}
    for name in _SIMPLEST_FIRST:
        why = _obstacle(name, job, clock.left())
        if why is not None:
            left_out[name] = why
            say(f"{name}: left out, {why}")
            continue
        say(f"training {name}; {max(clock.left(), 0):.0f} s left")
        _train(name, job, clock)
    if job.linear_start.begun is not None:
        say(f"networks begin as: {job.linear_start.begun}")
    return left_out


def _obstacle(name: str, job: Job, left: float) -> str | None:
    """Why a row cannot be trained; None where it can."""
    if name == "linear" and not LinearScores(job.spec).has_inputs:
        return "candidates have no features"
    if name == "lambdamart" and importlib.util.find_spec("lightgbm") is None:
        return "the extra 'trees' is not installed (pip install 'goalrank[trees]')"
    if left < _LEAST.get(name, 0.0):
        return f"{max(left, 0):.0f} s of the budget were left and it needs {_LEAST[name]:.0f}"
    return None


def _train(name: str, job: Job, clock: _Clock) -> None:
    if name != "goalrank":
        _timed(job, name, clock).fit_supervised(name, job.config.light_loop)
        return
    reward = _timed(job, "reward", clock).fit_reward()
    job.fitted.reward = reward
    _timed(job, "goalrank", clock).fit_generator(job.teacher(reward))


def _timed(job: Job, stage: str, clock: _Clock) -> Job:
    """The same job, whose next stage stops when its share of the time left is over."""
    seconds = max(_SHARES.get(stage, 1.0) * clock.left(), 1.0)
    if stage == "reward":
        seconds /= job.config.reward.members
    timed = replace(job, options=replace(job.options, max_seconds=seconds))
    timed.linear_start = job.linear_start  # solved once for all rows
    return timed


def _choose(
    job: Job,
    encoder: Encoder,
    train: Requests,
    metric: str,
    bootstrap: int,
    left_out: Mapping[str, str],
) -> Competition:
    if job.validation is None:
        raise TypeError("a competition needs validation requests")
    rankers: dict[str, Ranker] = {
        name: job.fitted.rankers[name] for name in _SIMPLEST_FIRST if name in job.fitted.rankers
    }
    baselines, _ = find_baselines(encoder, job.validation, job.train)
    if "linear" in rankers:
        baselines.pop(ev.LINEAR, None)
    trained = _measured(rankers, job, metric, bootstrap)
    fixed = _measured(baselines, job, metric, bootstrap)
    both, full = trained.merged(fixed), trained.metric_name(metric)
    winner, top = simplest_within_error(both, list(rankers), metric), trained.best(metric)
    config = job.config.model_copy(
        update={"ranker": job.config.ranker.model_copy(update={"name": winner})}
    )
    model = model_of(replace(job, config=config), encoder, train)
    starts = {name: start for name, start in job.fitted.starts.items() if name in rankers}
    verdict = (
        *_verdict(both, winner, top, fixed.best(metric), full, left_out, choices=len(rankers)),
        *(f"{name}: {start}." for name, start in starts.items()),
    )
    return Competition(model, winner, both, full, left_out, job.fitted.seconds, verdict)


def _measured(rankers: Mapping[str, Ranker], job: Job, metric: str, bootstrap: int) -> Evaluation:
    if job.validation is None:
        raise TypeError("a competition needs validation requests")
    return ev.evaluate(
        rankers, job.validation, slots=job.config.ranker.slots, metrics=ev.measured_with(metric),
        bootstrap=bootstrap,
    )  # fmt: skip


def simplest_within_error(
    evaluation: Evaluation, simplest_first: Sequence[str], metric: str
) -> str:
    """The first ranker that the best one does not exceed by more than one standard error.

    Args:
        evaluation: of all of them on the same requests.
        simplest_first: their names.
        metric: what is compared.
    """
    top = evaluation.best(metric, simplest_first)
    for name in simplest_first:
        lead = evaluation.paired(top, name, metric)
        if name == top or lead.mean <= (lead.high - lead.low) / _NORMAL:
            return name
    return top


def _verdict(
    evaluation: Evaluation,
    winner: str,
    top: str,
    baseline: str,
    metric: str,
    left_out: Mapping[str, str],
    *,
    choices: int,
) -> tuple[str, ...]:
    found = Comparison.of(evaluation, winner, baseline, metric, choices=choices)
    told = _TOLD.get(found.outcome, "is not told apart from")
    out = [
        f"Deploy {winner}: on {counted(evaluation.n, 'validation request')} its {metric} of "
        f"{found.trained_value:.3f} {told} that of the best baseline, {baseline} "
        f"({_span(found.difference)}{found.corrected})."
    ]
    if found.outcome in ("open", "one user", "undefined"):
        out.append(found.how_sure)
    if winner != top:
        ahead = evaluation.paired(top, winner, metric)
        told = "less than a standard error" if math.isfinite(ahead.high) else "what may be chance"
        out.append(
            f"{top} has the highest mean and is ahead of {winner} by {told} ({_span(ahead)}), so "
            f"the simpler ranker is kept."
        )
    out += [f"{name} was left out: {why}." for name, why in left_out.items()]
    return tuple(out)


def _span(difference: Difference) -> str:
    if not math.isfinite(difference.high):
        return f"difference {signed(difference.mean)}, no interval"
    return (
        f"difference {signed(difference.mean)}, 95 % interval {signed(difference.low)} to "
        f"{signed(difference.high)}"
    )
