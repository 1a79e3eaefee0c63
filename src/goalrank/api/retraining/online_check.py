"""`check_online`: which served versions break a guardrail of an experiment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goalrank.errors import ConfigError, TooFewUnitsError
from goalrank.experiments import (
    Breach,
    Experiment,
    Experiments,
    Variant,
    ab_report,
    broken_guardrails,
)
from goalrank.models import ModelRegistry, Pointer
from goalrank.storage import Place
from goalrank.wording import named_values

if TYPE_CHECKING:
    from goalrank.serving import Store


@dataclass(frozen=True)
class OnlineCheck:
    """A served version, compared with another one by an experiment's guardrails.

    Attributes:
        experiment: name of the experiment.
        pointer: how the version is served: as "champion", or as "canary".
        version: the version that is checked.
        against: the version that it is compared with.
        since: from when on exposures count.
        breaches: guardrails that it breaks.
        undecided: why nothing can be said yet; None where something can.
    """

    experiment: str
    pointer: Pointer
    version: int
    against: int
    since: datetime | None
    breaches: tuple[Breach, ...] = ()
    undecided: str | None = None

    def __str__(self) -> str:
        who = f"version {self.version} ({self.pointer})"
        where = f"against version {self.against} in experiment '{self.experiment}'"
        if self.undecided is not None:
            return f"{who} cannot be judged {where} yet: {self.undecided}"
        if self.breaches:
            return f"{who} TURNED BAD {where}: {'; '.join(map(str, self.breaches))}"
        return f"{who} holds its guardrails {where}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        breaches = [{**asdict(b.effect), "guardrail": b.metric.guardrail} for b in self.breaches]
        return {**asdict(self), "breaches": breaches}


def check_online(
    models: Place,
    store: str,
    experiments: str | Path,
    *,
    start: datetime | None = None,
    confidence: float = 0.95,
    expected_lift: float = 0.05,
) -> list[OnlineCheck]:
    """Check the champion, and the canary where there is one, by the guardrails of experiments.

    An experiment with a variant that serves `previous` (a hold-out) checks the champion; one with a
    variant that serves `canary` checks the canary against the champion. Only exposures since the
    version got its place count. Intervals are valid at every look, so the check may run hourly.

    Args:
        models: folder of the model registry.
        store: address of the server's store.
        experiments: the TOML file that the server reads.
        start: count exposures from this time on; None from when the version got its place.
        confidence: of the intervals.
        expected_lift: at which they are tight, see `ab_report`.

    Raises:
        ConfigError: no champion, or no experiment with a guardrail that serves one version beside
            another.
        DataError: the store lacks a guardrail's feedback type.
        StoreError: the store cannot be read.
    """
    from goalrank.serving import Store

    registry = ModelRegistry(models)
    if registry.champion is None:
        raise ConfigError(f"'{registry.folder}' has no champion to check; option: models")
    pairs = [
        (each, *pair)
        for each in Experiments.read(experiments).experiment
        if any(metric.guardrail is not None for metric in each.metrics)
        for pair in _pairs(registry, each)
    ]
    if not pairs:
        raise ConfigError(
            f"no experiment of '{experiments}' has both a metric with a guardrail and a variant "
            f"whose bundle is '{registry.pointer('previous')}' or '{registry.pointer('canary')}'; "
            f"remedy: add one; option: experiments"
        )
    with Store(store) as opened:
        return [_check(registry, opened, *pair, start, confidence, expected_lift) for pair in pairs]


def _pairs(
    registry: ModelRegistry, experiment: Experiment
) -> Iterator[tuple[Pointer, Variant, Variant]]:
    """Who is checked, its variant, and the variant that it is compared with."""
    if experiment.interleave is not None:
        return
    served = {_pointer(registry, each): each for each in experiment.variants}
    champion = served.get("champion")
    if champion is None:
        return
    if "previous" in served:
        yield "champion", champion, served["previous"]
    if "canary" in served:
        yield "canary", served["canary"], champion


def _pointer(registry: ModelRegistry, variant: Variant) -> str:
    """Which pointer a variant serves; its bundle's path where it is none of them."""
    if variant.bundle is None:
        return "champion"
    place = Path(variant.bundle).absolute()
    names: tuple[Pointer, ...] = ("champion", "canary", "previous")
    found = (name for name in names if registry.pointer(name).absolute() == place)
    return next(found, variant.bundle)


def _check(
    registry: ModelRegistry,
    store: Store,
    experiment: Experiment,
    pointer: Pointer,
    variant: Variant,
    control: Variant,
    start: datetime | None,
    confidence: float,
    expected_lift: float,
) -> OnlineCheck:
    from goalrank.serving import stored_requests

    history = registry.history()
    since = start or history.since(pointer)
    other: Pointer = "champion" if pointer == "canary" else "previous"
    version, against = history.pointers[pointer], history.pointers[other]
    plain = OnlineCheck(experiment.name, pointer, version, against, since)
    if version == against:
        return _undecided(plain, f"'{other}' is the same version")
    try:
        report = ab_report(
            experiment, stored_requests(store, since), control=control.name,
            confidence=confidence, sequential=expected_lift,
        )  # fmt: skip
    except TooFewUnitsError as error:
        return _undecided(plain, str(error).partition("; remedy")[0])
    if report.alarm:
        return _undecided(
            plain,
            f"the variants' sizes ({named_values(report.units)} units) do not fit their weights",
        )
    breaches = tuple(broken_guardrails(experiment, report, variant.name))
    return OnlineCheck(experiment.name, pointer, version, against, since, breaches)


def _undecided(check: OnlineCheck, why: str) -> OnlineCheck:
    return OnlineCheck(
        check.experiment, check.pointer, check.version, check.against, check.since, undecided=why
    )
