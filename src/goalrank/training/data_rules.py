"""Settings that follow from the training requests: what "auto" and 0 stand for."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from goalrank.requests import EncodedRequests, InputSpec
from goalrank.settings import merge
from goalrank.training.config import LIST_REWARD, FitConfig, LoopConfig
from goalrank.training.distributed.process_group import gather_bytes, is_distributed
from goalrank.wording import counted

_FEW_POSITIVES = 10.0  # per item; below it, networks learn the ids of the log by heart
_LEFT_TO_FEATURES = 0.95
_LEARNED = 0.05
_KNOWN = 0.95  # share of the candidates with known relevance


@dataclass(frozen=True)
class DataFacts:
    """What the rules look at.

    Attributes:
        requests: training requests of all processes.
        positives_per_item: positive feedback of the target per known item.
        known: share in [0, 1] of the candidates whose relevance is known.
    """

    requests: int
    positives_per_item: float
    known: float

    @property
    def relevance_known(self) -> bool:
        """Whether nearly every candidate's relevance is known."""
        return self.known >= _KNOWN

    @classmethod
    def of(cls, spec: InputSpec, train: EncodedRequests, *, split: bool = False) -> DataFacts:
        """Count in encoded training requests.

        Args:
            spec: input sizes.
            train: training requests.
            split: whether each process has a part of them.
        """
        positives = int((train.feedback[:, train.target] > 0).sum()) if train.target >= 0 else 0
        candidates, shown = len(train.candidates), int((train.shown >= 0).sum())
        counts = [len(train), positives, candidates, shown]
        if split and is_distributed():
            parts = [json.loads(part) for part in gather_bytes(json.dumps(counts).encode())]
            counts = [sum(column) for column in zip(*parts)]
        requests, positives, candidates, shown = counts
        items = max(spec.item_ids - spec.item_buckets - 1, 1)
        known = 1.0 if train.protocol != "exposed" else shown / max(candidates, 1)
        return cls(requests, positives / items, known)


def resolved(config: FitConfig, facts: DataFacts) -> FitConfig:
    """Replace "auto" and 0 by what the training requests say.

    - `steps` and `validate_every` of 0: see `LoopConfig.over`; four passes over few training
      requests, two over many, and one over many for a generator with a warm start, which begins
      with what the reward model has learned;
    - `id_dropout`: 0.95 where an item has fewer than 10 positives on average, else 0.05;
    - `reward.observed`, `objective.supervised`: 1 where at least 95 % of the candidates have a
      known relevance, else 0, since an item without feedback then may only not have been shown;
    - `reward.slot_weights`: "dcg" under the same condition, else "ones";
    - `objective.warm_start`: whether the reward is the list reward model, with an encoder of the
      ranker's size.

    Args:
        config: settings.
        facts: of the training requests.

    Returns:
        The same settings without an "auto".
    """
    requests = facts.requests
    warm = _or(config.objective.warm_start, _can_warm_start(config))
    training = config.training.over(requests, _passes(config, warm))
    loops = {
        "light_loop": config.light_loop.over(requests).model_dump(),
        "training": training.model_dump(),
    }
    reward = {
        "loop": config.reward.loop.over(requests).model_dump(),
        "id_dropout": _or(config.reward.id_dropout, _id_dropout(facts)),
        "observed": _or(config.reward.observed, float(facts.relevance_known)),
        "slot_weights": _or(config.reward.slot_weights, "dcg" if facts.relevance_known else "ones"),
    }
    objective = {
        "supervised": _or(config.objective.supervised, float(facts.relevance_known)),
        "warm_start": warm,
    }
    ranker = {"id_dropout": _or(config.ranker.id_dropout, _id_dropout(facts))}
    return FitConfig.model_validate(
        merge(
            config.model_dump(),
            {**loops, "reward": reward, "objective": objective, "ranker": ranker},
        )
    )


def rules_applied(config: FitConfig, facts: DataFacts) -> list[str]:
    """Say which settings followed from the data, and from what."""
    found = resolved(config, facts)
    out = []
    loops = [("training.steps", config.training, found.training)]
    if config.objective.name != "supervised":
        loops.append(("reward.loop.steps", config.reward.loop, found.reward.loop))
    out += [
        f"{name} = {loop.steps}: {_passes_said(loop, facts)} over {counted(facts.requests, 'request')}, "
        f"within 200 and 3,000 steps"
        for name, asked, loop in loops
        if asked.steps == 0
    ]
    if config.ranker.id_dropout == "auto":
        out.append(
            f"ranker.id_dropout = {found.ranker.id_dropout:g}: "
            f"{facts.positives_per_item:.1f} positives per item"
        )
    if config.objective.supervised == "auto":
        out.append(
            f"objective.supervised = {found.objective.supervised:g}, reward.observed = "
            f"{found.reward.observed:g}: the relevance of {facts.known:.0%} of the candidates is "
            f"known"
        )
    return out


def _or(value: Any, rule: Any) -> Any:
    return rule if value == "auto" else value


def _passes(config: FitConfig, warm_start: bool) -> int:
    return 1 if warm_start and config.objective.name != "supervised" else 2


def _passes_said(loop: LoopConfig, facts: DataFacts) -> str:
    # The last batch of a pass holds what is left, so a step of few requests reads fewer.
    passes = loop.steps / max(math.ceil(facts.requests / loop.batch_size), 1)
    return "1 pass" if passes == 1 else f"{float(f'{passes:.3g}'):,g} passes"


def _can_warm_start(config: FitConfig) -> bool:
    return config.reward.name == LIST_REWARD and config.unlike() is None


def _id_dropout(facts: DataFacts) -> float:
    return _LEFT_TO_FEATURES if facts.positives_per_item < _FEW_POSITIVES else _LEARNED
