"""Settings of a world: their ranges and meanings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, Field

from goalrank.errors import ConfigError
from goalrank.settings import faults, read_toml

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            found = "; ".join(faults(error, type(self)))
            raise ConfigError(
                f"{type(self).__name__} refused: {found}; remedy: set these options to allowed values"
            ) from error


class KindConfig(_Strict):
    """One feedback type. The first type of a world is always ``click``.

    P(kind | click) = sigmoid(bias + scale · <user, item rotated by the type's own matrix>), so that
    each type follows its own preferences.

    Attributes:
        name: column name in the feedback struct.
        weight: reward of one such feedback.
        bias: logit of the type for a neutral user and item; not used by the click.
        scale: weight of the user's preferences; not used by the click.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "click"
    weight: NonNegative = 1.0
    bias: Real = 0.0
    scale: NonNegative = 1.0


class LoggingConfig(_Strict):
    """The logging policy: a mixture of three Plackett–Luce policies, then a shuffle.

    Attributes:
        random: share of requests served in random order.
        pointwise: share served by the retriever's noisy score (``candidate_score``).
        popular: share served by popularity.
        temperature: temperature of the Plackett–Luce draw; small values almost sort.
        shuffle: share of lists that are then put in random order, so that slot and quality are
            independent in them.
    """

    random: Probability = 0.2
    pointwise: Probability = 0.6
    popular: Probability = 0.2
    temperature: Positive = 1.0
    shuffle: Probability = 0.1

    @pydantic.model_validator(mode="after")
    def _shares(self) -> Self:
        total = self.random + self.pointwise + self.popular
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"random + pointwise + popular is {total:g} and must be 1")
        return self


class FactorsConfig(_Strict):
    """User and item vectors fitted to a real log by `goalrank world fit`.

    Attributes:
        file: safetensors file with `users` [U, D], `items` [I, D] and `popularity` [I] (counts);
            the path is relative to the TOML file's folder.
        sha256: digest of that file, so that the settings alone identify the world.
    """

    file: Annotated[Path, BeforeValidator(lambda value: Path(value) if value else value)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @pydantic.field_serializer("file", when_used="json")
    def _name(self, file: Path) -> str:
        """Write the file's name without its folder, which does not belong to the world."""
        return file.name


def _factors(value: Any) -> Any:
    return FactorsConfig(**value) if isinstance(value, dict) else value


def _kinds(value: Any) -> Any:
    """Turn tables of a TOML file into settings; leave anything else to the type check."""
    if isinstance(value, list | tuple):
        return tuple(KindConfig(**kind) if isinstance(kind, dict) else kind for kind in value)
    return value


def _logging(value: Any) -> Any:
    return LoggingConfig(**value) if isinstance(value, dict) else value


class WorldConfig(_Strict):
    """Settings of a planted world; probabilities must be in [0, 1].

    Attributes:
        name: written to ``TableInfo.dataset`` of sampled tables.
        seed: seed of users, items and popularity.
        users, items, clusters, dim: sizes of the population and width D of the latent space.
        spread: noise of an item around its cluster's centre (0: all items of a cluster are equal).
        tastes: number of clusters that a user likes.
        bias, scale, quality: logit of the attraction = bias + scale · <user, item> + quality · z,
            z standard normal per item.
        candidates, slots: N and L.
        examination: ``position`` (slot t is examined with probability decay^t, independently) or
            ``cascade`` (the next slot is examined with probability continue_click after a click,
            continue_skip otherwise).
        decay: see `examination`.
        continue_click, continue_skip: see `examination`.
        fatigue: attraction is multiplied by exp(-fatigue · sum of similarities to earlier slots).
        similarity_power: similarity = max(0, cosine)^power.
        complementarity: added to the logit when an item of the complementary cluster comes before.
        kinds: feedback types; reward = sum over slots and kinds of weight · P(kind).
        noise: hidden shift of a request: all its logits rise or fall by this much, each with
            probability 1/2.
        drift: radians per day by which user vectors rotate.
        season, season_days: amplitude (logit) and period of the clusters' popularity waves.
        popularity_skew: popularity of the item of rank k ∝ (k + 1)^-skew; independent of quality.
        popularity_bias: weight of (standardised log) popularity in retrieval and in its score.
        retriever_noise: standard deviation of the noise in ``candidate_score`` (logit units).
        retriever_sharpness: how strongly retrieval prefers what the user likes.
        logging: the logging policy.
        history: the longest history; lengths are uniform from half of it.
        requests_per_day: requests per day, evenly spaced.
        vector_features, vector_noise: whether items show a noisy copy of their latent vector.
        cluster_feature: whether items show their cluster.
        user_features: whether users have a side table with a noisy latent vector.
        factors: users, items and popularity fitted to a log; None plants clusters. `users`,
            `items` and `dim` must match the factors; `spread`, `tastes` and `popularity_skew` are
            then unused.
    """

    name: str = "world"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    users: Count = 1000
    items: Count = 2000
    clusters: Count = 20
    dim: Annotated[int, Field(ge=2)] = 16
    spread: NonNegative = 0.5
    tastes: Count = 3
    bias: Real = 0.0
    scale: NonNegative = 3.0
    quality: NonNegative = 0.5
    candidates: Count = 30
    slots: Count = 6
    examination: Literal["position", "cascade"] = "cascade"
    decay: Probability = 0.9
    continue_click: Probability = 0.95
    continue_skip: Probability = 0.9
    fatigue: NonNegative = 0.3
    similarity_power: Positive = 1.0
    complementarity: NonNegative = 0.0
    kinds: Annotated[tuple[KindConfig, ...], BeforeValidator(_kinds)] = (KindConfig(),)
    noise: NonNegative = 0.0
    drift: Real = 0.0
    season: NonNegative = 0.0
    season_days: Positive = 28.0
    popularity_skew: NonNegative = 0.8
    popularity_bias: NonNegative = 0.5
    retriever_noise: NonNegative = 1.0
    retriever_sharpness: NonNegative = 0.5
    logging: Annotated[LoggingConfig, BeforeValidator(_logging)] = LoggingConfig()
    history: Annotated[int, Field(ge=0)] = 20
    requests_per_day: Count = 10_000
    vector_features: bool = False
    vector_noise: NonNegative = 0.1
    cluster_feature: bool = True
    user_features: bool = False
    factors: Annotated[FactorsConfig | None, BeforeValidator(_factors)] = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.candidates < self.slots:
            raise ValueError(
                f"candidates={self.candidates} must be at least slots={self.slots}: "
                "a request must be able to fill its list"
            )
        if self.items < self.candidates:
            raise ValueError(f"items={self.items} must be at least candidates={self.candidates}")
        if self.clusters > self.items or self.tastes > self.clusters:
            raise ValueError(
                f"clusters={self.clusters} must be at most items={self.items} "
                f"and at least tastes={self.tastes}"
            )
        names = [kind.name for kind in self.kinds]
        if not names or names[0] != "click" or len(set(names)) != len(names):
            raise ValueError(f"kinds={names} must start with 'click' and must not repeat")
        if all(kind.weight == 0.0 for kind in self.kinds):
            raise ValueError("kinds: at least one weight must be positive")
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_factors(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `factors` out where it is None, so that keys made of the settings do not change."""
        values: dict[str, Any] = handler(self)
        if values.get("factors") is None:
            values.pop("factors", None)
        return values

    @classmethod
    def load(cls, path: Path | str) -> WorldConfig:
        """Read the settings from a TOML file.

        Args:
            path: the file.

        Raises:
            ConfigError: the file is missing, is not TOML, or a setting is refused.
        """
        path = Path(path)
        values = read_toml(path, "world", "name a TOML file such as configs/worlds/fatigue.toml")
        factors = values.get("factors")
        if isinstance(factors, dict) and isinstance(factors.get("file"), str):
            values["factors"] = factors | {"file": path.parent / factors["file"]}
        return cls(**values)
