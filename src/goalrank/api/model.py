"""`fit`: requests in, a model out."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goalrank.api.recipes import recipe_path
from goalrank.errors import BundleError
from goalrank.rankers import Ranker, build_ranker, ranker_names
from goalrank.requests import Encoder, Requests
from goalrank.serving import Bundle
from goalrank.training import FitConfig, Fitted, Job, RunOptions, load_config, run_job

Config = FitConfig | str | Path | None


@dataclass(repr=False)
class Model(Bundle):
    """A bundle fresh from training, with what only the training knows.

    Attributes:
        fitted: every ranker of the job, telemetry and seconds of each stage.
        job: encoded training requests and settings; None once saved and loaded again.
    """

    fitted: Fitted = field(default_factory=Fitted)
    job: Job | None = None

    @property
    def rankers(self) -> dict[str, Ranker]:
        """The light models and the generator, by name."""
        return self.fitted.rankers


def fit(
    train: Requests | str | Path,
    validation: Requests | str | Path | None = None,
    *,
    config: Config = None,
    out: str | Path | None = None,
    progress: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    **run: Any,
) -> Model:
    """Train the light models, the reward model and the generator of a recipe.

    Args:
        train: requests with feedback, or their file.
        validation: decides when to stop and which weights to keep; None keeps the last.
        config: settings, a recipe's file or name; None takes the defaults.
        out: folder for `run/` (checkpoints, logs) and `bundle/`; None keeps nothing on disk.
        progress: show progress bars.
        resume: go on with the job in `out`; finished stages are not run again.
        overwrite: start afresh in `out`, whatever job or bundle it holds.
        run: accelerator, devices, strategy, nodes, tensorboard; see `RunOptions`.

    Raises:
        ConfigError: settings that cannot be used, or resuming a job of other settings.
        DataError: the requests break a rule.
        BundleError: `out` holds a bundle or a job already.
    """
    train, validation = _read(train), None if validation is None else _read(validation)
    settings = config if isinstance(config, FitConfig) else load_config(_path(config))
    if out is not None:
        _check_free(Path(out), resume or overwrite)
    with tempfile.TemporaryDirectory(prefix="goalrank-") as scratch:
        folder = Path(out) / "run" if out is not None else Path(scratch)
        options = RunOptions(folder=folder, resume=resume, progress=progress, **run)
        model = _fit(train, validation, settings, options)
    if out is not None and _first_process():
        model.save(Path(out) / "bundle", overwrite=True)
    return model


def load(folder: str | Path) -> Bundle:
    """Read a bundle; see `Bundle.load`."""
    return Bundle.load(folder)


def _fit(
    train: Requests, validation: Requests | None, config: FitConfig, options: RunOptions
) -> Model:
    encoder = Encoder.fit(train, config.encoder)
    for name in (config.ranker.name, *config.light):
        if name not in ranker_names():  # complain now, not after minutes of training
            build_ranker(encoder.spec, config.ranker.model_copy(update={"name": name}))
    columns = encoder.encode(train)
    held = None if validation is None else encoder.encode(validation)
    fitted = run_job(encoder.spec, columns, held, config, options)
    info = train.info
    return Model(
        ranker=fitted.rankers[config.ranker.name],
        config=config.ranker,
        encoder=encoder,
        reward=fitted.reward,
        train={
            "dataset": info.dataset,
            "protocol": info.protocol,
            "target": info.target,
            "warning": info.warning,
            "requests": len(train),
            "seeds": [config.seed],
            "recipe": config.model_dump(mode="json"),
        },
        fitted=fitted,
        job=Job(encoder.spec, columns, held, config, options, fitted),
    )


def _read(requests: Requests | str | Path) -> Requests:
    return requests if isinstance(requests, Requests) else Requests.read(requests, allow_empty=True)


def _path(config: str | Path | None) -> Path | None:
    return None if config is None else recipe_path(config)


def _check_free(out: Path, allowed: bool) -> None:
    what = "a finished bundle" if (out / "bundle").exists() else "an unfinished job"
    if not allowed and ((out / "bundle").exists() or (out / "run").exists()):
        raise BundleError(
            f"'{out}' holds {what}; remedy: another folder (--out), --resume to go on with its "
            f"job, or --overwrite to start afresh"
        )


def _first_process() -> bool:
    """Whether this is the one process, or the first of many, of a job."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK"))
