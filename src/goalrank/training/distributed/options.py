"""Options of a training run: folder, devices and processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from goalrank.errors import ConfigError
from goalrank.training.distributed.data_parallel import is_multi_process

T = TypeVar("T")
PerStage: TypeAlias = Sequence[T] | Callable[[str], Sequence[T] | T] | T
"""The same objects for every stage, or a function of the stage's name that makes its own."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a training run that change no result: where and how it is computed.

    Attributes:
        folder: the stage's folder: checkpoints, logs, final weights.
        resume: continue from the folder's last checkpoint, or take its finished weights.
        progress: show progress bars.
        accelerator: passed to Lightning.
        devices: processes on each machine; under torchrun "auto" is the number it started.
        strategy: how several processes train: ddp or fsdp; auto is ddp.
        nodes: machines; None is the number that torchrun started, else 1.
        split_data: under torchrun each process has a part of the requests, not all of them.
        tensorboard: write TensorBoard logs as well (extra `tensorboard`).
        max_seconds: time after which each stage stops with what it has; None is no limit. Unlike
            the others it changes results.
        callbacks: further Lightning callbacks.
        loggers: further Lightning loggers.
        say: told what the data decided, as soon as it is known; None prints it on stderr where
            progress bars are shown.
    """

    folder: Path
    resume: bool = False
    progress: bool = True
    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: str = "auto"
    nodes: int | None = None
    tensorboard: bool = False
    split_data: bool = False
    max_seconds: float | None = None
    callbacks: PerStage[Callback] = ()
    loggers: PerStage[Logger] = ()
    say: Callable[[str], None] | None = None

    def tell(self, text: str) -> None:
        """Say a sentence to whoever runs the training.

        Args:
            text: the sentence.
        """
        if self.say is not None:
            self.say(text)
        elif self.progress:
            print(text, file=sys.stderr)

    def refuse_odd(self) -> None:
        """Refuse objects that are no callbacks or loggers, before anything is read or trained.

        Raises:
            ConfigError: an object of another kind among them.
        """
        if not callable(self.callbacks):
            self.callbacks_of("")
        if not callable(self.loggers):
            self.loggers_of("")

    def callbacks_of(self, stage: str) -> list[Callback]:
        """The user's callbacks for a stage."""
        return _of_stage(self.callbacks, stage, Callback, "callbacks")

    def loggers_of(self, stage: str) -> list[Logger]:
        """The user's loggers for a stage."""
        return _of_stage(self.loggers, stage, Logger, "loggers")

    @property
    def is_multi_process(self) -> bool:
        """Whether more than one process trains."""
        return is_multi_process(self.devices, self.nodes or 1)


def _of_stage(given: PerStage[Any], stage: str, kind: type[Any], option: str) -> list[Any]:
    of_stage: Any = given(stage) if callable(given) else given
    made = list(of_stage) if isinstance(of_stage, Sequence) else [of_stage]
    odd = [each for each in made if not isinstance(each, kind)]
    if odd:
        raise ConfigError(
            f"{option} holds a {type(odd[0]).__name__}, which is no Lightning {kind.__name__}; "
            f"remedy: a list of lightning.pytorch {option}, or a function of the stage's name that "
            f"gives one; option: {option}"
        )
    return made
