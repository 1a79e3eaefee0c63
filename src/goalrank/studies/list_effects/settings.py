"""Settings of a study of list effects, and what a log must have for one."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goalrank.errors import ConfigError, DataError
from goalrank.requests import EncodedRequests, Requests
from goalrank.training import FitConfig

FEWEST_SLOTS = 2


class ListEffectsConfig(BaseModel):
    """What is fitted and on how much.

    Attributes:
        kind: feedback kind that is predicted; None takes the table's target.
        seeds: of the models' weights and batches; each seed fits all three models.
        split: "time" takes the parts as imported; "random" deals all users anew (70, 10 and 20 %),
            for logs whose order is no time.
        max_train, max_validation, max_test: requests drawn at random from each part; 0 takes all.
        bootstrap: resamples of the intervals.
        fit: recipe; its reward section and encoder are used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    split: Literal["time", "random"] = "time"
    max_train: int = Field(default=30_000, ge=0)
    max_validation: int = Field(default=3_000, ge=0)
    max_test: int = Field(default=0, ge=0)
    bootstrap: int = Field(default=1_000, ge=100)
    fit: FitConfig = FitConfig()

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("one or more different whole numbers from 0 on")
        return seeds

    @model_validator(mode="after")
    def _has_list_reward(self) -> Self:
        if self.fit.reward.name != "list_reward":
            raise ValueError(
                f"fit.reward.name is '{self.fit.reward.name}', and this study compares forms of "
                f"'list_reward'"
            )
        return self


def check_protocol(table: Requests) -> None:
    """Refuse a log that does not say what was shown in which order.

    Raises:
        DataError: another protocol than "exposed".
    """
    protocol = table.info.protocol
    if protocol != "exposed":
        raise DataError(
            f"protocol is '{protocol}', but list effects are read from lists that users were shown "
            f"in a known order; remedy: a log of exposures (goalrank data import exposures)"
        )


def chosen_kind(kind: str | None, train: EncodedRequests) -> str:
    """The feedback kind to predict: the one asked for, or the table's target.

    Raises:
        ConfigError: no such kind, or the table has several and no target.
        DataError: the table has no feedback, or the kind is the same everywhere.
    """
    if not train.kinds or not len(train.feedback):
        raise DataError(
            "the training requests have no feedback, so there is nothing to predict; remedy: "
            "import the log with its feedback columns (goalrank data import … --kinds click)"
        )
    found = kind or (train.kinds[train.target] if train.target >= 0 else None)
    if found not in train.kinds:
        asked = "the table has no target" if found is None else f"feedback kind '{found}' is absent"
        raise ConfigError(f"{asked}; remedy: one of {', '.join(train.kinds)} (option: --kind)")
    values = train.feedback[:, train.kinds.index(found)]
    if float(values.min()) == float(values.max()):
        raise DataError(
            f"feedback '{found}' is {float(values[0]):g} at every training slot, so no model can be "
            f"told from another; remedy: another kind (option: --kind) or a longer log"
        )
    return found


def check_levels(kind: str, validation: EncodedRequests) -> None:
    """Refuse a validation part whose feedback never varies: levels of slots are refitted on it.

    Raises:
        DataError: the kind is the same at every slot.
    """
    values = validation.feedback[:, validation.kinds.index(kind)]
    if len(values) and float(values.min()) == float(values.max()):
        raise DataError(
            f"feedback '{kind}' is {float(values[0]):g} at every slot of the {len(validation)} "
            f"validation requests, on which the models' levels are refitted; remedy: a longer "
            f"validation part (option: --max-validation), or another kind (option: --kind)"
        )


def check_lists(part: str, requests: EncodedRequests) -> None:
    """Refuse requests of which none shows two items.

    Raises:
        DataError: no list of two or more in this part.
    """
    longest = int(np.diff(requests.shown_start).max(initial=0))
    if longest < FEWEST_SLOTS:
        raise DataError(
            f"the longest list among the {len(requests)} {part} requests has {longest} items, but "
            f"neighbours and order need lists of {FEWEST_SLOTS}; remedy: import with whole "
            f"requests (--columns request_id=NAME), not one row each"
        )
