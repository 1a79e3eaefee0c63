"""Settings of groups."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GroupConfig(BaseModel):
    """Number of lists that each source gives to a group.

    Attributes:
        own: samples of the policy in training.
        light: from light models (each one's best list first, then samples).
        heuristic: sorts by the retriever's score or one candidate feature, either way.
        perturbed: own samples with one slot swapped or replaced.
        logged: the shown list (0 or 1).
        random: uniformly random lists.
        thin: keep this many lists, evenly spaced by reward rank, so that gaps stay large;
            0 keeps all.
        temperature: of own samples.
        tries: candidates tried in a slot group at most; drawn at random where there are more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    own: int = Field(default=8, ge=0)
    light: int = Field(default=4, ge=0)
    heuristic: int = Field(default=2, ge=0)
    perturbed: int = Field(default=4, ge=0)
    logged: int = Field(default=1, ge=0, le=1)
    random: int = Field(default=1, ge=0)
    thin: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    tries: int = Field(default=64, ge=2)

    @model_validator(mode="after")
    def _not_empty(self) -> GroupConfig:
        if not (self.own or self.light or self.heuristic or self.logged or self.random):
            raise ValueError("a group needs lists: own, light, heuristic, logged or random above 0")
        return self
