"""Settings of the laboratory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from goalrank.studies.theory.bounds.reward_bias import BiasKind
from goalrank.studies.theory.bounds.training_run import GroupTraining
from goalrank.studies.theory.fits.fit import FitOptions
from goalrank.worlds import WorldConfig


def tiny_world(candidates: int = 6, slots: int = 3) -> WorldConfig:
    """Make the settings of configs/worlds/tiny.toml (120 lists), with other sizes if given.

    Args:
        candidates: N.
        slots: L.
    """
    return WorldConfig(
        name="tiny", seed=3, users=50, items=40, clusters=4, dim=4, tastes=2, bias=0.0, scale=2.0,
        candidates=candidates, slots=slots, fatigue=0.8, complementarity=0.5, history=5,
    )  # fmt: skip


def _largest_runs() -> dict[str, GroupTraining]:
    run = GroupTraining(own=32, light=32, steps=150)
    return {"own_light_64": run, "noise_0.05": replace(run, amplitude=0.05)}


def _runs() -> dict[str, GroupTraining]:
    """Make the group trainings: several coverages without bias, several biases, the z-score."""
    runs = {}
    for size in (4, 8, 16, 40):
        runs[f"own_{size}"] = GroupTraining(own=size, light=0)
        runs[f"own_light_{size}"] = GroupTraining(own=size // 2, light=size - size // 2)
        runs[f"light_{size}"] = GroupTraining(own=0, light=size)
        mixed = runs[f"own_light_{size}"]
        runs[f"zscore_{size}"] = replace(mixed, scale="group", temperature=1.0)
    runs["all_120"] = GroupTraining(own=120, light=0)
    runs["zscore_all_120"] = GroupTraining(own=120, light=0, scale="group", temperature=1.0)
    for beta in (0.02, 0.05, 0.1, 0.2):
        kinds: tuple[BiasKind, ...] = ("noise", "popularity")
        for kind in kinds:
            biased = GroupTraining(own=20, light=20, bias=kind, amplitude=beta)
            runs[f"{kind}_{beta}"] = biased
            runs[f"{kind}_all_{beta}"] = replace(biased, own=120, light=0)
    return runs


@dataclass(frozen=True)
class LabConfig:
    """Settings of the laboratory.

    Attributes:
        world: a world whose lists can be enumerated (N <= 8, L <= 4).
        requests: M of the population.
        temperature: τ of the population, above 0.
        fit: options of the fits.
        widths: widths of single generators, in addition to those that the comparisons need.
        alphas: widths α of the generators of mixtures and best-of-k.
        ks: numbers k of these generators; every pair with k·α <= ``most_width`` is fitted.
        most_width: largest k·α.
        extra: n of the theorem's widths kα + n.
        noise: noise of the evaluator of the biased best-of-k, in standard deviations of r*.
        noise_alpha: width of the generators of the biased best-of-k.
        mixture_target_extra: n of the comparison in which π* is a mixture.
        runs: name → group training.
        largest_world: the largest world that can be enumerated here.
        largest_requests: M of its population.
        largest_runs: name → group training that checks the bound there.
        beta: β of the order survival study, see `order_survival`.
        thresholds: σ of that study, in units of β.
        size: lists per group of that study.
        draws: groups per request of that study.
        bins: bins of the gap in that study.
    """

    world: WorldConfig = field(default_factory=tiny_world)
    requests: int = 16
    temperature: float = 0.1
    fit: FitOptions = field(default_factory=FitOptions)
    widths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
    alphas: tuple[int, ...] = (1, 2, 4)
    ks: tuple[int, ...] = (2, 4, 8)
    most_width: int = 16
    extra: tuple[int, ...] = (0, 2, 8)
    noise: tuple[float, ...] = (1.0, 3.0)
    noise_alpha: int = 2
    mixture_target_extra: tuple[int, ...] = (0, 2, 8, 16)
    runs: dict[str, GroupTraining] = field(default_factory=_runs)
    largest_world: WorldConfig = field(default_factory=lambda: tiny_world(candidates=8, slots=4))
    largest_requests: int = 6
    largest_runs: dict[str, GroupTraining] = field(default_factory=_largest_runs)
    beta: float = 0.1
    thresholds: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    size: int = 20
    draws: int = 64
    bins: int = 12
