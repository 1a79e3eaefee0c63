"""`OffPolicyOptions`: the options of an off-policy estimate, declared once for Python and CLI."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class OffPolicyOptions(BaseModel):
    """What an off-policy estimate is asked for.

    `evaluate_off_policy` takes these fields as keywords; `goalrank ope` makes its options of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reward: dict[str, float] | None = Field(
        default=None,
        description="KIND=WEIGHT of a list's reward, summed over slots. Repeatable; default: the "
        "log's target, 1.",
    )
    estimators: tuple[str, ...] | None = Field(
        default=None,
        description="ips, snips, clipped, dm, dr, sndr, switch-dr, position-ips or position-snips. "
        "Repeatable; default: all that log, bundle and reward model allow.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="The new policy draws its lists, softened by this. Without it the policy is "
        "greedy and a logged list has probability 0 or 1.",
    )
    lists: int = Field(
        default=16, ge=1, description="Lists drawn per request for the model's mean in dr."
    )
    cap: float = Field(
        default=10.0,
        gt=0,
        description="Largest weight of 'clipped', 'switch-dr' and the lower bounds.",
    )
    min_effective: float = Field(
        default=50.0, description="Refuse an effective sample size below this."
    )
    min_clicks: float = Field(
        default=30.0,
        description="Refuse an estimate that rests on fewer answers of equal weight than this.",
    )
    allow_weak_support: bool = Field(default=False, description="Warn instead of refusing.")
    allow_training_log: bool = Field(
        default=False, description="Warn instead of refusing a log that the bundle was trained on."
    )
    drop_unknown: bool = Field(
        default=False, description="Leave out requests without a propensity."
    )
    bootstrap: int = Field(default=1000, ge=1, description="Resamples of the intervals.")
    seed: int = Field(default=0, description="Of draws and resamples.")
    unit: Literal["user", "request"] = Field(
        default="user",
        description="What is independent: user (with all requests; Student's t over fewer than 30 "
        "users) or request.",
    )
    batch_size: int = Field(default=256, ge=1, description="Requests per batch.")
    device: str = Field(default="cpu", description="cpu, cuda, …")

    @field_validator("reward", mode="before")
    @classmethod
    def _default_reward(cls, value: object) -> object:
        return value or None  # no weights at all: those of the log

    @field_validator("device", mode="before")
    @classmethod
    def _device_name(cls, value: object) -> Any:
        return str(value)  # a torch.device too
