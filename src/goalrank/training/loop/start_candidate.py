"""The model before training as a candidate of model selection.

A network begins as the linear solution, and the better of both on validation is kept. On a small
validation part the best of many checkpoints is better by luck alone, so there the trained weights
must be better by more than an error (docs/decisions/0020).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.encoders import wide_parameters
from goalrank.requests import EncodedRequests
from goalrank.storage import write_text
from goalrank.training.distributed.data_parallel import SharedBatch, all_reduce_sums
from goalrank.training.modules.task import Task
from goalrank.wording import signed

_BATCH = 256
_FEW_REQUESTS, _FEW_USERS = 300, 30  # below these, validation tells little
RECORD = "start.json"


@dataclass(frozen=True)
class StartComparison:
    """The trained weights against those at the start, on validation.

    Attributes:
        start, trained: mean scores.
        gain: trained - start.
        error: standard error of the gain; requests of one user count as one draw, but where all are
            of one user, each request does. Infinite for one request.
        kept: "start" or "trained".
        asked: standard errors that the gain had to exceed; above 0 on a small validation part.
    """

    start: float
    trained: float
    gain: float
    error: float
    kept: str
    asked: float = 0.0

    def __str__(self) -> str:
        said = f"training gained {signed(self.gain, 4)} ± {self.error:.4f} on validation"
        if not math.isfinite(self.error):
            said = (
                f"training gained {signed(self.gain, 4)} on validation, too small to tell an error"
            )
        if self.asked:
            said += f" (a small part: the gain must exceed {self.asked:g} × its error)"
        return f"{said}; the {'linear start' if self.kept == 'start' else 'trained model'} is kept"


class StartCandidate:
    """Remembers a model before it is trained, where it has a linear solution to fall back on.

    Args:
        task: its model is the start, its `start_margin` what a gain must exceed on a small part.
        validation: requests to compare on; None or empty compares nothing.
        split: whether each process has its own part of the requests.
    """

    def __init__(
        self, task: Task[Any], validation: EncodedRequests | None, *, split: bool = False
    ) -> None:
        self.task = task
        self.validation = validation
        self.split = split
        whole = not any(p.is_meta for p in task.model.parameters())
        comparable = whole and validation is not None and len(validation) > 0
        self.weights: Mapping[str, Tensor] | None = None
        if comparable and any(bool(p.any()) for p in wide_parameters(task.model)):
            self.weights = {k: v.clone() for k, v in task.model.state_dict().items()}

    def choose(self, trained: Mapping[str, Tensor]) -> StartComparison | None:
        """Compare trained weights with the start; the model holds the better ones afterwards.

        Args:
            trained: weights by name.

        Returns:
            The comparison; None where nothing can be compared, and the model is left as it is.
        """
        if self.weights is None or self.validation is None:
            return None
        model, device = self.task.model, self.task.device
        was_training = model.training
        model.load_state_dict(self.weights)
        before = self._scores(device)
        model.load_state_dict(trained)
        after = self._scores(device)
        found = compare(
            before, after, self.validation.user, self.task.start_margin, split=self.split
        )
        if found.kept == "start":
            model.load_state_dict(self.weights)
        model.train(was_training)
        return found

    @torch.no_grad()
    def _scores(self, device: torch.device) -> NDArray[np.float64]:
        """Score of every validation request; NaN where a request has none."""
        if self.validation is None:
            raise TypeError("there are no validation requests")
        self.task.model.eval().to(device)
        out = []
        for batch in self.validation.batches(_BATCH):
            moved = self.task.transfer_batch_to_device(SharedBatch(batch), device, 0)
            out.append(self.task.validate_batch(moved)["score"].double().cpu())
        self.task.model.cpu()
        return torch.cat(out).numpy()


def compare(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    user: NDArray[np.integer],
    margin: float,
    *,
    split: bool = False,
) -> StartComparison:
    """Compare the scores [R] of two rankers on the same requests; the better one is kept.

    Args:
        before: scores; NaN where a request has none.
        after: scores of the other ranker.
        user: [R]; requests of one user count as one draw.
        margin: standard errors by which `after` must be better to be kept, where fewer than 300
            requests have scores or they are of fewer than 30 users.
        split: whether each process has its own part of the requests.
    """
    real = np.isfinite(before) & np.isfinite(after)
    sums = {"before": float(before[real].sum()), "after": float(after[real].sum())}
    counts = dict.fromkeys(sums, float(real.sum()))
    if split:
        sums, counts = all_reduce_sums(sums, counts)
    count = max(counts["after"], 1.0)
    gain = (sums["after"] - sums["before"]) / count
    _, cluster = np.unique(user[real], return_inverse=True)
    each = (after - before)[real] - gain
    off = np.bincount(cluster, each)
    spread = {
        "user": float((off**2).sum()), "request": float((each**2).sum()), "users": float(len(off))
    }  # fmt: skip
    if split:
        spread, _ = all_reduce_sums(spread, dict.fromkeys(spread, 0.0))
    if spread["users"] > 1:
        error = math.sqrt(spread["user"]) / count
    else:  # one user's sum says nothing of its error
        error = math.sqrt(spread["request"] / (count - 1) / count) if count > 1 else math.inf
    small = counts["after"] < _FEW_REQUESTS or spread["users"] < _FEW_USERS
    asked = margin if small else 0.0
    enough = gain > (asked * error if asked else 0.0)
    kept = "trained" if enough or not counts["after"] else "start"
    return StartComparison(sums["before"] / count, sums["after"] / count, gain, error, kept, asked)


def write_comparison(folder: Path, found: StartComparison) -> None:
    """Keep a comparison beside a stage's weights."""
    write_text(folder / RECORD, json.dumps(asdict(found), indent=2))


def read_comparison(folder: Path) -> StartComparison | None:
    """The comparison of a stage; None where there was none."""
    path = folder / RECORD
    return StartComparison(**json.loads(path.read_text())) if path.exists() else None
