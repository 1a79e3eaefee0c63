"""Run of the whole laboratory: fits, bound, order survival, tables and figures in one folder."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from goalrank.compute import ParallelMap, process_map
from goalrank.errors import ConfigError
from goalrank.storage import try_folder, write_json
from goalrank.studies.theory.bounds.order_survival import order_survival
from goalrank.studies.theory.bounds.training_run import train
from goalrank.studies.theory.checks import step_checks
from goalrank.studies.theory.figures import draw_all
from goalrank.studies.theory.fits.approximation import FamilyFits
from goalrank.studies.theory.fits.claims import (
    budget_rows,
    budget_widths,
    mixture_target_rows,
    theorem_rows,
)
from goalrank.studies.theory.fits.families import Mixture
from goalrank.studies.theory.population import Population, make_population
from goalrank.studies.theory.settings import LabConfig
from goalrank.wording import counted

_NEAR = (
    1.01  # starts that end within this factor of the best E found one optimum, as far as E tells
)


def _approximation(
    population: Population,
    config: LabConfig,
    seed: int,
    progress: Callable[[str], None],
    parallel_map: ParallelMap,
) -> dict[str, Any]:
    fits = FamilyFits(population, config.fit, seed, progress, parallel_map)
    pairs = [(k, a) for a in config.alphas for k in config.ks if k * a <= config.most_width]
    theorem_widths = {k * a + n for k, a in pairs for n in config.extra}
    widths = set(config.widths) | set(config.alphas) | theorem_widths | budget_widths(fits, pairs)
    fits.fit_singles(sorted(widths))
    for k, a in pairs:
        fits.fit_mixture(k, a)
        fits.fit_best_of(k, a)
        for n in config.extra[:2]:
            fits.stack(k, a, k * a + n)
    fits.make_monotone()
    for k, a in pairs:
        for ratio in config.noise if a == config.noise_alpha else ():
            fits.fit_biased(k, a, ratio)
    return {
        "families": {
            "single": {f"w{w}": f.summary() for w, f in sorted(fits.singles.items())},
            "mixture": {f"k{k}_a{a}": f.summary() for (k, a), f in fits.mixtures.items()},
            "best_of": {f"k{k}_a{a}": f.summary() for (k, a), f in fits.best_of.items()},
            "best_of_noisy": {
                f"k{k}_a{a}_noise{r:g}": f.summary() for (k, a, r), f in fits.biased.items()
            },
        },
        "checks": step_checks(fits),
        "theorem": theorem_rows(fits, list(config.extra)),
        "equal_budget": budget_rows(fits),
        "planted": _mixture_targets(fits, config, pairs),
    }


def _mixture_targets(
    fits: FamilyFits, config: LabConfig, pairs: list[tuple[int, int]]
) -> dict[str, list[dict[str, Any]]]:
    """Fit single generators to targets that are mixtures: a random one and a fitted one."""
    middle = (4, config.noise_alpha)
    k, a = middle if middle in pairs else pairs[-1]
    random = Mixture(fits.sizes, 2, 2, fits.rng(8))
    with torch.no_grad():
        random.generators.out.mul_(3.0)  # sharp enough that the two generators really differ
    extra = list(config.mixture_target_extra)
    return {
        "random_k2_a2": mixture_target_rows(fits, random, extra),
        f"fitted_k{k}_a{a}": mixture_target_rows(fits, fits.mixtures[k, a].policy, extra),
    }


def _largest_world(config: LabConfig, seed: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Check the bound in the largest world that can be enumerated here."""
    population = make_population(
        config.largest_world, config.largest_requests, temperature=config.temperature, seed=seed
    )
    bound = {name: train(population, run, seed=seed) for name, run in config.largest_runs.items()}
    progress(
        f"{counted(len(population.lists), 'list')}: bound checked in {counted(len(bound), 'run')}"
    )
    return {"target": _target(population), "bound": bound}


def _survival(population: Population, config: LabConfig, seed: int) -> dict[str, Any]:
    return {
        kind: order_survival(
            population,
            kind=kind,
            amplitude=config.beta,
            thresholds=list(config.thresholds),
            size=config.size,
            draws=config.draws,
            bins=config.bins,
            seed=seed,
        )
        for kind in ("noise", "popularity", "gaussian")
    }


def _target(population: Population) -> dict[str, float | int]:
    lists = len(population.lists)
    uniform = torch.full_like(population.log_prob, -math.log(lists))
    return {
        "requests": len(population.reward),
        "candidates": population.candidates,
        "slots": population.lists.shape[1],
        "lists": lists,
        "temperature": population.temperature,
        "entropy": float(population.entropy.mean()),
        "E_uniform": float(population.error(uniform)),
        "reward_std": float(population.reward.std(dim=1).mean()),
        "reward_best": float(population.reward.amax(dim=1).mean()),
        "reward_optimal_policy": float(
            (population.log_prob.exp() * population.reward).sum(dim=1).mean()
        ),
    }


def _counts(results: dict[str, Any]) -> dict[str, int]:
    fits = [f for family in results["families"].values() for f in family.values()]
    rows = results["theorem"]
    verdicts = [row["verdict"] for row in rows]
    same = [row for row in rows if row["n"] == 0]
    runs = [*results["bound"].values(), *results["reach"]["bound"].values()]
    telling = [
        run["end"]["bound"] < part["target"]["E_uniform"]
        for part in (results, results["reach"])
        for run in part["bound"].values()
    ]
    return {
        "fits": len(fits),
        "not_converged": sum(not f["converged"] for f in fits),
        "found_twice": sum(_found_twice(f) for f in fits),
        "bound_runs": len(telling),
        "bound_below_uniform": sum(telling),
        "theorem_rows": len(verdicts),
        **{f"theorem_{v.replace(' ', '_')}": verdicts.count(v)
           for v in ("holds", "not observed", "undecided")},
        "theorem_same_width": len(same),
        "theorem_same_width_holds": sum(row["verdict"] == "holds" for row in same),
        "theorem_same_width_holds_random": sum(row["holds_random"] for row in same),
        "theorem_wider": len(rows) - len(same),
        "theorem_wider_holds": sum(row["verdict"] == "holds" for row in rows if row["n"]),
        "theorem_wider_holds_random": sum(row["holds_random"] for row in rows if row["n"]),
        "bound_checks": sum(run["checks"] for run in runs),
        "bound_violations": sum(run["violations"] for run in runs),
    }  # fmt: skip


def _found_twice(fit: dict[str, Any]) -> bool:
    """Whether a second start of a fit came within 1 % of its best E."""
    near = _NEAR * float(fit["E"])
    errors = [start["error"] for start in fit["starts"] if start["error"] is not None]
    return sum(float(error) <= near for error in errors) > 1


def _cpu_seconds() -> float:
    """CPU seconds of this process and its ended children so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _cost(started: float, cpu_before: float, jobs: int) -> dict[str, Any]:
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(_cpu_seconds() - cpu_before, 1),
        "jobs": jobs,
        "machine": platform.machine(),
        "torch": torch.__version__,
    }


def run(
    out_dir: str | Path,
    *,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    config: LabConfig | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Run the laboratory and write ``theory.json``, ``theory_run.json`` and the figures.

    Args:
        out_dir: folder of the results; made if missing.
        seed: from 0 to 2⁶³ − 1; the same seed on the same machine gives the same ``theory.json``,
            for any ``jobs`` and any number of threads of PyTorch.
        progress: called with one line per finished fit or run.
        config: settings; None runs the full laboratory (five to ten minutes on one core).
        jobs: processes that fit starts in parallel, at least 1. Several processes are spawned, so a
            script that asks for them must keep its own work under ``if __name__ == "__main__"``.

    Returns:
        The content of ``theory.json``. ``theory_run.json`` has the time that the run took (wall
        clock, and CPU seconds, which are comparable on a shared machine) and the machine.

    Raises:
        ConfigError: a seed out of range, no job, an empty grid, or a world that is too large.
        DataError: the folder cannot be written, which is found out before anything is fitted.
        InfeasibleError: an enumeration that would not fit into memory, or a fit of which every
            start overflowed.
    """
    config, tell = config or LabConfig(), progress or (lambda _: None)
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed={seed} must lie in 0..2⁶³ − 1 (option: --seed)")
    if not any(k * a <= config.most_width for k in config.ks for a in config.alphas):
        raise ConfigError(
            f"ks={config.ks} × alphas={config.alphas} must hold a pair with k·alpha <= "
            f"most_width={config.most_width}"
        )
    if jobs < 1:
        raise ConfigError(f"jobs={jobs} must be at least 1")
    out = Path(out_dir)
    try_folder(out)  # an error now, not after all fits
    started, cpu_before = time.perf_counter(), _cpu_seconds()
    population = make_population(
        config.world, config.requests, temperature=config.temperature, seed=seed
    )
    results: dict[str, Any] = {
        "seed": seed,
        "starts": config.fit.starts,
        "target": _target(population),
    }
    with process_map(jobs) as parallel_map:
        results |= _approximation(population, config, seed, tell, parallel_map)
        results["bound"] = {}
        runs = parallel_map(partial(train, population, seed=seed), config.runs.values())
        for name, ended in zip(config.runs, runs, strict=True):
            results["bound"][name] = ended
            tell(f"groups {name}: KL={ended['end']['kl']:.4f}")
        results["reach"] = _largest_world(config, seed, tell)
        results["survival"] = _survival(population, config, seed)
    results["counts"] = _counts(results)
    write_json(out / "theory.json", results, indent=1)  # first: figures can be drawn again
    files = draw_all(results, out)
    cost = _cost(started, cpu_before, jobs) | {"figures": [path.name for path in files]}
    write_json(out / "theory_run.json", cost, indent=1)
    tell(f"{counted(len(files), 'figure')} and theory.json in {cost['seconds']} s")
    return results
