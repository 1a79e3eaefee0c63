"""`evaluate`: rankers and baselines, measured on the same requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, cast

import polars as pl

from goalrank import evaluation as ev
from goalrank.bundles import Bundle
from goalrank.errors import ConfigError
from goalrank.evaluation import Audit, Evaluation, html_summary
from goalrank.rankers import Ranker
from goalrank.reporting import evaluation_table
from goalrank.requests import EncodedRequests, Encoder, Requests
from goalrank.wording import counted

Progress = Callable[[int, int], None]
# Baselines that count over past requests, and so need the training table.
_COUNTED = ("popularity", "smoothed feedback rate", "last-item transitions")
_LEARNED = "linear baseline"


@dataclass(frozen=True)
class Scorecard:
    """Rankers and baselines (rankers without learning), measured on the same requests.

    Attributes:
        trained: evaluation of the trained rankers; None if only baselines were asked for.
        baselines: evaluation of the baselines.
        audit: their comparison.
        dataset: name of the data.
        warning: the requests table's own, to be printed with every number.
    """

    trained: Evaluation | None
    baselines: Evaluation
    audit: Audit
    dataset: str = "unknown"
    warning: str | None = None

    @property
    def verdict(self) -> tuple[str, ...]:
        """Sentences of the audit."""
        return self.audit.verdict

    @property
    def both(self) -> Evaluation:
        """Rankers and baselines in one evaluation."""
        return self.baselines if self.trained is None else self.trained.merged(self.baselines)

    def to_frame(self) -> pl.DataFrame:
        """Every mean with its interval, as a table.

        Returns:
            As `Evaluation.to_frame`, and `trained`: whether the ranker learned.
        """
        learned = [] if self.trained is None else self.trained.rankers
        return self.both.to_frame().with_columns(trained=pl.col("ranker").is_in(learned))

    def _repr_html_(self) -> str:
        """What a notebook shows: all rankers, best first, and the verdict."""
        warning = [f"Warning: {self.warning}"] if self.warning else []
        return html_summary(self.both, f"Scorecard: {self.dataset}", [*warning, *self.verdict])

    def shown(self, metric: str, baselines: int = 5) -> list[str]:
        """Trained rankers and the best baselines, best first.

        Args:
            metric: to order by, with or without "@L".
            baselines: at most so many.
        """
        best = self.baselines.best_first(metric)[:baselines]
        chosen = {*best, *([] if self.trained is None else self.trained.rankers)}
        return [name for name in self.both.best_first(metric) if name in chosen]

    def table(self, metrics: Sequence[str] | None = None) -> str:
        """Markdown: rankers and all baselines, best first."""
        return evaluation_table(self.both, metrics).markdown()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        audit = self.audit
        return {
            "dataset": self.dataset,
            "warning": self.warning,
            "rankers": {} if self.trained is None else self.trained.to_dict(),
            "baselines": self.baselines.to_dict(),
            "audit": audit_dict(audit),
            "metadata": (self.trained or self.baselines).metadata(),
        }

    def __str__(self) -> str:
        warning = [f"Warning: {self.warning}", ""] if self.warning else []
        both, names = self.both, self.shown(self.audit.metric)
        left = len(both.rankers) - len(names)
        note = f"{counted(left, 'weaker baseline')} not shown; table() has all of them."
        shown = evaluation_table(both, None, names, [note] if left else [])
        return "\n".join([*warning, shown.markdown(), "", *self.verdict])


def audit_dict(audit: Audit) -> dict[str, Any]:
    """An audit as plain values."""
    return {
        "metric": audit.metric,
        "best_baseline": audit.baseline,
        "best_trained": audit.trained,
        "difference": None if audit.difference is None else audit.difference.to_dict(),
        "holds": audit.holds,
        "verdict": list(audit.verdict),
    }


def evaluate(
    rankers: Bundle | Mapping[str, Bundle | Ranker],
    requests: Requests | str | Path,
    slots: int | None = None,
    *,
    train: Requests | str | Path | None = None,
    metric: str = "ndcg",
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Scorecard:
    """Measure rankers on requests with known feedback, and audit them against baselines.

    Args:
        rankers: a bundle, or name → bundle or ranker; bare rankers use the first bundle's encoder.
        requests: held-out requests, or their file.
        slots: L; None takes the length that the bundles were trained for.
        train: the training requests; baselines that count over the past (popularity and the like)
            come from them. None leaves those baselines out, except for a model fresh from `fit`.
        metric: what the audit compares by; a name of `goalrank.evaluation.METRICS`, "auc", or
            "package.module:function".
        bootstrap: resamples of the intervals.
        seed: of the resamples.
        batch_size: requests per batch; the results do not depend on it.
        device: where the rankers run.
        progress: called with (requests done, requests in all) of each encoder's rankers in turn.

    Raises:
        ConfigError: no bundle among the rankers, bundles of several lengths where none is given,
            or a setting out of range.
        DataError: no request has a positive.

    Examples:
        >>> from goalrank import evaluate, load
        >>> card = evaluate(load(folder), test, train=train, bootstrap=20)
        >>> card.to_frame().columns[:6]
        ['ranker', 'metric', 'mean', 'low', 'high', 'requests']
        >>> card.to_frame()["slots"][0]  # the bundle's own
        6
    """
    table = requests if isinstance(requests, Requests) else Requests.read(requests)
    named = rankers if isinstance(rankers, Mapping) else {rankers.config.name: rankers}
    bundle = next((r for r in named.values() if isinstance(r, Bundle)), None)
    if bundle is None:
        raise ConfigError(
            "none of the rankers is a bundle, so nobody knows how to encode the requests; remedy: "
            "pass the model that goalrank.fit gave, or goalrank.load, among them"
        )
    options: dict[str, Any] = {
        "slots": _length(named) if slots is None else slots,
        "metrics": ev.measured_with(metric),
        "bootstrap": bootstrap,
        "seed": seed,
        "batch_size": batch_size,
        "device": device,
        "progress": progress,
    }
    trained = reduce(
        Evaluation.merged,
        (
            ev.evaluate(group, encoder.encode(table), **options)
            for encoder, group in _by_encoder(named, bundle.encoder)
        ),
    )
    columns = bundle.encoder.encode(table)
    baselines, notes = find_baselines(bundle.encoder, columns, _past(bundle, train))
    return score(trained, baselines, columns, table, notes=notes, metric=metric, **options)


def _length(named: Mapping[str, Bundle | Ranker]) -> int:
    """L of the bundles.

    Raises:
        ConfigError: they differ in it.
    """
    lengths = {n: r.config.slots for n, r in named.items() if isinstance(r, Bundle)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"'{name}' {slots}" for name, slots in lengths.items())
        raise ConfigError(
            f"the bundles were trained for lists of several lengths ({listed}), and all are "
            f"measured at one; remedy: say which (option: slots)"
        )
    return next(iter(lengths.values()))


def audit_table(
    train: Requests,
    test: Requests,
    slots: int = 6,
    *,
    metric: str = "ndcg",
    bootstrap: int = 1000,
    progress: Progress | None = None,
) -> Scorecard:
    """The audit of a data set alone: baselines only, nothing is trained.

    Args:
        train: the past that baselines may count over.
        test: what they rank.
        slots: as in `evaluate`.
        metric: as in `evaluate`.
        bootstrap: as in `evaluate`.
        progress: as in `evaluate`.

    Raises:
        DataError: no test request has a positive.
    """
    encoder = Encoder.fit(train)
    columns = encoder.encode(test)
    baselines, notes = find_baselines(encoder, columns, encoder.encode(train))
    return score(
        None, baselines, columns, test,
        notes=notes, metric=metric, metrics=ev.measured_with(metric), slots=slots,
        bootstrap=bootstrap, progress=progress,
    )  # fmt: skip


def score(
    trained: Evaluation | None,
    baselines: Mapping[str, Ranker],
    columns: EncodedRequests,
    table: Requests,
    *,
    notes: Sequence[str] = (),
    metric: str = "ndcg",
    **options: Any,
) -> Scorecard:
    """Evaluate baselines and compare; `options` go to `goalrank.evaluation.ranking.evaluate`."""
    of_baselines = ev.evaluate(baselines, columns, **options)
    audit = ev.audit(trained, of_baselines, metric, notes=notes)
    return Scorecard(trained, of_baselines, audit, table.info.dataset, table.info.warning)


def find_baselines(
    encoder: Encoder, columns: EncodedRequests, past: EncodedRequests | None
) -> tuple[dict[str, Ranker], list[str]]:
    """Baselines by name, and sentences about those that cannot be made.

    Args:
        encoder: the one that encoded both tables.
        columns: the requests to be ranked.
        past: encoded training requests, if known.
    """
    names = encoder.info.candidate_features
    if past is not None:
        found: dict[str, Ranker] = dict(ev.audit_baselines(past, names))
        linear = ev.linear_baseline(encoder.spec, past)
        notes = [] if linear else [f"Candidates have no features, so there is no {_LEARNED}."]
        return found | linear, [*notes, *ev.absent_baselines(past)]
    baselines = ev.audit_baselines(columns, names)
    kept: dict[str, Ranker] = {
        name: baseline for name, baseline in baselines.items() if not name.startswith(_COUNTED)
    }
    note = (
        f"Baselines that learn or count over past requests ({_LEARNED}, {', '.join(_COUNTED)}) were left out, since no "
        f"training table was given."
    )
    return kept, [note]


def _by_encoder(
    named: Mapping[str, Bundle | Ranker], first: Encoder
) -> list[tuple[Encoder, dict[str, Ranker]]]:
    """Rankers that share an encoder are evaluated together."""
    groups: dict[int, tuple[Encoder, dict[str, Ranker]]] = {}
    for name, ranker in named.items():
        encoder = ranker.encoder if isinstance(ranker, Bundle) else first
        _, group = groups.setdefault(id(encoder), (encoder, {}))
        group[name] = ranker.ranker if isinstance(ranker, Bundle) else ranker
    return list(groups.values())


def _past(bundle: Bundle, train: Requests | str | Path | None) -> EncodedRequests | None:
    if train is not None:
        table = train if isinstance(train, Requests) else Requests.read(train)
        return bundle.encoder.encode(table)
    job = getattr(bundle, "job", None)  # of a `Model`; its module would load the training library
    return None if job is None else cast(EncodedRequests, job.train)
