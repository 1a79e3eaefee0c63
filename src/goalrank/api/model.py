"""`fit`: requests in, a model out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from goalrank.bundles import Bundle
from goalrank.encoders import add_tree_scores
from goalrank.errors import BundleError, ConfigError
from goalrank.logs import RETRIEVAL, LearntRetrieval
from goalrank.rankers import Ranker
from goalrank.recipes import DEFAULT, recipe_path
from goalrank.requests import (
    EncodedRequests,
    Encoder,
    LogFingerprint,
    Requests,
    read_shard,
)
from goalrank.storage import Location, local_copy, local_path
from goalrank.training import (
    FitConfig,
    Fitted,
    Job,
    PerStage,
    RunOptions,
    barrier,
    check_names,
    gather_bytes,
    is_distributed,
    is_first,
    join_process_group,
    label_leaks,
    load_config,
    lost_processes,
    part_sizes,
    process_rank,
    resolve_options,
    run_job,
)

Config = FitConfig | str | Path | None


@dataclass(repr=False)
class Model(Bundle):
    """A bundle fresh from training, with results that only the training has.

    Attributes:
        fitted: every ranker of the job, telemetry and seconds of each stage; empty once saved and
            loaded again.
        job: encoded training requests and settings; None once saved and loaded again.

    Examples:
        >>> from goalrank.api import Model
        >>> model = Model.load(folder)  # that `fit(..., out=folder)` wrote
        >>> list(model.rankers)
        ['goalrank']
    """

    fitted: Fitted = field(default_factory=Fitted)
    job: Job | None = None

    @property
    def rankers(self) -> dict[str, Ranker]:
        """The light models and the generator, by name; of a loaded model the generator alone."""
        return self.fitted.rankers or {self.config.name: self.ranker}


def fit(
    train: Requests | str | Path,
    validation: Requests | str | Path | None = None,
    *,
    config: Config = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    callbacks: PerStage[Any] = (),
    loggers: PerStage[Any] = (),
    out: str | Path | None = None,
    progress: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    learnt: LearntRetrieval | None = None,
    **run: Any,
) -> Model:
    """Train the light models, the reward model and the generator of a recipe.

    Args:
        train: requests with feedback, or their file: a path, or an fsspec address (s3://…).
        validation: decides when to stop and which weights to keep; None keeps the last.
        config: settings, a recipe's file or name; None takes the defaults.
        overrides: settings that replace those of `config`, by name: {"training.steps": 500}; or
            texts as for `--set`.
        callbacks: Lightning callbacks for every stage's trainer, or a function of the stage's name
            ("pretrain", "reward-0", "goalrank", …) that gives a list. The same objects
            serve all stages, so what keeps a state (early stopping) wants a function.
        loggers: Lightning loggers besides the CSV log, also a list or a function: TensorBoard
            (extra `[tensorboard]`), MLflow (`[mlflow]`), W&B (`[wandb]`) and others. Every stage counts
            its steps from 0, so a function that gives each stage its own run reads best.
        out: folder of this machine for `run/` (checkpoints, logs) and `bundle/`; None keeps
            nothing on disk.
        progress: show progress bars, and what the data decided.
        resume: go on with the job in `out`; finished stages are not run again.
        overwrite: start again in `out`, even if it holds a job or bundle.
        learnt: what the import of `train` learnt for retrieval and linked features, which the
            bundle keeps for a server; None takes what lies beside the file of `train`.
        run: accelerator, devices, strategy, nodes, split_data, tensorboard, say; see `RunOptions`.

    Under torchrun every process calls this with the same arguments; the first writes.

    Raises:
        ConfigError: settings that cannot be used, or resuming a job of other settings.
        DataError: the requests break a rule.
        BundleError: `out` holds a bundle or a job already.
        PeerLostError: a process of the job was ended; `resume=True` goes on.

    Examples:
        >>> from goalrank import fit
        >>> model = fit(
        ...     train, validation,  # tables, or their files
        ...     overrides={"training.steps": 4, "reward.loop.steps": 2},
        ...     out=folder, progress=False,
        ... )
        >>> lists = model.rank(test, slots=3)
        >>> lists.columns
        ['request_id', 'user_id', 'items', 'positions', 'log_prob']

        With a logger of Lightning's for each stage, here of files:

        >>> from lightning.pytorch.loggers import CSVLogger
        >>> model = fit(
        ...     train, config=model.job.config, progress=False,
        ...     loggers=lambda stage: [CSVLogger(folder / "logs", name=stage)],
        ... )
        >>> sorted(path.name for path in (folder / "logs").iterdir())
        ['goalrank', 'reward-0']
    """
    out = None if out is None else local_path(out, "out")
    settings = load_config(recipe_source(config), overrides)
    asked = RunOptions(Path(), resume, progress, callbacks=callbacks, loggers=loggers, **run)
    options = resolve_options(asked)
    options.refuse_odd()
    if out is not None:
        check_free(out, options.resume or overwrite)
    elif process_rank() is not None:
        raise ConfigError(
            "several processes share checkpoints and weights on disk; remedy: a folder (--out)"
        )
    join_process_group(options)
    with lost_processes(), tempfile.TemporaryDirectory(prefix="goalrank-") as scratch:
        barrier()  # until all have looked at the folder
        table = _read(train, options)
        held = None if validation is None else _read(validation, options)
        folder = out / "run" if out is not None else Path(scratch)
        model = _fit(table, held, settings, replace(options, folder=folder))
        model.learnt = learnt_beside(train) if learnt is None else learnt
    if out is not None and is_first():
        model.save(out / "bundle", overwrite=True)
    return model


def _fit(
    train: Requests, validation: Requests | None, config: FitConfig, options: RunOptions
) -> Model:
    check_names(config)  # now, not after minutes of encoding and training
    shards = {"exchange": gather_bytes} if options.split_data and is_distributed() else {}
    encoder = Encoder.fit(train, config.encoder, **shards)
    columns, folds = encoder.encode(train), config.encoder.tree_folds
    if shards:
        note = "tree scores: left out, as every process has a part of the requests"
    else:
        encoder, columns, note = add_tree_scores(encoder, columns, folds=folds, seed=config.seed)
    held = None if validation is None else encoder.encode(validation)
    notes = [note, *label_leaks(train.info.candidate_features, columns, held)]
    if is_first():
        for sentence in notes:
            options.tell(sentence)
    job = run_job(encoder.spec, columns, held, config, options)
    job.fitted.notes[:0] = notes
    return model_of(job, encoder, train)


def model_of(job: Job, encoder: Encoder, train: Requests) -> Model:
    """Make a model of a finished job; its ranker is the one that the recipe names.

    Args:
        job: with its fitted rankers.
        encoder: of the job's requests.
        train: the training table, which the model describes and can recognise again.
    """
    config, fitted, info = job.config, job.fitted, train.info
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
            "requests": _count(job.train, job.options),
            "log": LogFingerprint.of(train).to_dict(),
            "seeds": [config.seed],
            "recipe": config.model_dump(mode="json"),
        },
        fitted=fitted,
        job=job,
    )


def learnt_beside(train: Requests | str | Path) -> LearntRetrieval | None:
    """What the import of a training table learnt for retrieval and linked features.

    Args:
        train: the table's file, or the folder of its data set; a table in memory has nothing
            beside it.
    """
    if isinstance(train, Requests):
        return None
    place = Location(str(train))
    for folder in (place.child(RETRIEVAL), place.parent().child(RETRIEVAL)):
        if folder.exists():
            with local_copy(folder.address) as path:
                return LearntRetrieval.load(path)
    return None


def _read(requests: Requests | str | Path, options: RunOptions) -> Requests:
    here = process_rank()
    if here is None or not options.split_data:
        if isinstance(requests, Requests):
            return requests
        return Requests.read(requests, allow_empty=True)
    if isinstance(requests, Requests):
        raise ConfigError(
            "split_data reads each process's own rows, so it needs paths and not tables; remedy: "
            "give the file or the folder of shards"
        )
    return read_shard(local_path(requests, "train"), here.rank, here.ranks, gather_bytes)


def _count(columns: EncodedRequests, options: RunOptions) -> int:
    """Training requests in all processes."""
    if not (options.split_data and is_distributed()):
        return len(columns)
    return sum(part_sizes(columns, None)[0])


def recipe_source(config: Config) -> FitConfig | Path:
    """Settings made already, or the file of a recipe; None is the default recipe."""
    return config if isinstance(config, FitConfig) else recipe_path(config or DEFAULT)


def check_free(out: Path, allowed: bool) -> None:
    """Refuse a folder that holds a job or a bundle, unless that is allowed.

    Raises:
        BundleError: it holds one.
    """
    what = "a finished bundle" if (out / "bundle").exists() else "an unfinished job"
    if not allowed and ((out / "bundle").exists() or (out / "run").exists()):
        raise BundleError(
            f"'{out}' holds {what}; remedy: another folder (--out), --resume to go on with its "
            f"job, or --overwrite to start afresh"
        )
