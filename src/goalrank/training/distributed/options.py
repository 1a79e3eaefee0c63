"""Options of a training run: folder, devices and processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goalrank.training.distributed.data_parallel import is_multi_process


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

    @property
    def is_multi_process(self) -> bool:
        """Whether more than one process trains."""
        return is_multi_process(self.devices, self.nodes or 1)
