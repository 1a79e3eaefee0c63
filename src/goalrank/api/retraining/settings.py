"""`RetrainSettings`: what a retraining is told, from a TOML file and overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from goalrank.settings import checked, merge, parse_override, read_toml
from goalrank.training import PartialRecipe


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _in_utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Time = Annotated[datetime, AfterValidator(_in_utc)]


class WindowSettings(_Strict):
    """The newest requests, which a challenger and the champion are judged on and neither learnt from."""

    hours: float = Field(
        default=24.0, gt=0, description="Length of the window, back from the newest request."
    )
    most: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Largest share of the requests that the champion was not trained on; the "
        "others are what the challenger learns from.",
    )
    requests: int = Field(
        default=200,
        ge=1,
        description="Fewest requests in the window; the window grows to reach it. With fewer new "
        "requests since the last version was judged, nothing is trained.",
    )


class GateSettings(_Strict):
    """What a challenger must show to be promoted."""

    metric: str = Field(default="ndcg", description="Ranking metric, also of the audit.")
    require: Literal["not_worse", "better"] = Field(
        default="not_worse",
        description="not_worse: no significant loss, and none above the margin; better: a "
        "significant gain over the champion.",
    )
    margin: float = Field(
        default=0.01, ge=0, description="Largest mean loss of the metric, with not_worse."
    )
    audit: bool = Field(
        default=True, description="Refuse a challenger that is significantly below a baseline."
    )
    calibration: float = Field(
        default=0.03,
        ge=0,
        description="Largest growth of the reward model's calibration error over the champion's, "
        "on the target.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="Of the off-policy estimate: the temperature that lists are served with. "
        "Without it the estimate is of the best list, for which few logs have support.",
    )
    lower_bound: float | None = Field(
        default=None,
        description="Smallest allowed lower bound of the off-policy gain over the logged lists, "
        "relative to their reward, e.g. -0.05; the bound holds for any sample size (95 %, weights cut "
        "at 10). Without it only a significant loss is refused.",
    )
    lead_kept: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of its lead over chance that the champion must keep on the window: "
        "below it the window's feedback is doubted, not the champion.",
    )
    rate_ratio: float = Field(
        default=2.0,
        gt=1,
        description="Largest change of a feedback type's rate against the past, as a factor "
        "either way.",
    )
    share_growth: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Largest growth of one item's, or one user's, share of the positives.",
    )
    bootstrap: int = Field(default=1000, ge=1, description="Resamples of the intervals.")
    seed: int = Field(default=0, description="Of the resamples.")


class RetrainSettings(_Strict):
    """What a retraining is told.

    Raises:
        ConfigError: an unknown name or a value out of range (by `load_retrain_settings`).
    """

    recipe: PartialRecipe = Field(
        default_factory=dict,
        description="Settings of the training, laid over the recipe: recipe.training.steps=500.",
    )
    validation: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the training requests, the latest, that decide when to stop.",
    )
    days: float | None = Field(
        default=None, gt=0, description="Train on the last so many days only; default: on all."
    )
    base: bool = Field(
        default=True,
        description="Train on the imported data too; false: on what was served alone.",
    )
    exclude: tuple[tuple[Time, Time], ...] = Field(
        default=(),
        description="Time ranges [from, to) to leave out, such as a day whose log was poisoned.",
    )
    settle_minutes: float = Field(
        default=60.0,
        ge=0,
        description="How long exposures wait for their feedback before they are exported; what "
        "comes later is not learnt from.",
    )
    promote: Literal["champion", "canary", "no"] = Field(
        default="champion",
        description="Where a version goes that the gate passed: champion; canary, which an "
        "experiment may serve to some users; or nowhere.",
    )
    window: WindowSettings = WindowSettings()
    gate: GateSettings = GateSettings()

    @field_validator("exclude")
    @classmethod
    def _ranges(cls, value: tuple[tuple[datetime, datetime], ...]) -> Any:
        for start, end in value:
            if start >= end:
                raise ValueError(f"a range must end after it starts, found {start} to {end}")
        return value


def load_retrain_settings(
    source: str | Path | None = None, overrides: Iterable[str] | Mapping[str, Any] = ()
) -> RetrainSettings:
    """Read settings and lay overrides over them.

    Args:
        source: TOML file; None takes the defaults.
        overrides: texts such as "gate.margin=0.02", or name → value.

    Raises:
        ConfigError: every fault at once, each with its setting's name.
    """
    data: dict[str, Any] = {}
    if source is not None:
        data = read_toml(source, "settings", "name a TOML file (option: --settings)")
    pairs = (
        overrides.items()
        if isinstance(overrides, Mapping)
        else [parse_override(each, "gate.margin=0.02") for each in overrides]
    )
    data = reduce(merge, (_nested(name, value) for name, value in pairs), data)
    remedy = "correct them in the file or with --set NAME=VALUE"
    return checked(RetrainSettings, data, "the retraining", remedy)


def _nested(name: str, value: Any) -> dict[str, Any]:
    for key in reversed(name.split(".")):
        value = {key: value}
    return dict(value)
