"""What a world is made of: every setting, its range and its meaning."""

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
    """One kind of feedback. The first kind of a world is always ``click``.

    P(kind | click) = sigmoid(bias + scale · <user, item turned by the kind's own rotation>), so a
    kind other than the click follows another taste than the click does.

    Attributes:
        name: column name in the feedback struct.
        weight: what one such feedback adds to the reward.
        bias: logit of the kind for a neutral user and item; not used by the click.
        scale: how much taste matters; not used by the click.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "click"
    weight: NonNegative = 1.0
    bias: Real = 0.0
    scale: NonNegative = 1.0


class LoggingConfig(_Strict):
    """The policy that fills the log: a mixture of three Plackett–Luce policies, then a shuffle.

    Attributes:
        random: share of requests served in random order.
        pointwise: share served by the retriever's noisy score (``candidate_score``).
        popular: share served by popularity.
        temperature: of the Plackett–Luce draw; small means almost sorted.
        shuffle: share of lists whose chosen items are then put in random order, which frees
            position from quality in the log.
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
    """Tastes and items fitted to a real log by `goalrank world fit`, in place of planted clusters.

    Attributes:
        file: safetensors with `users` [U, D], `items` [I, D] and `popularity` [I], counts; a path
            from the TOML file's folder.
        sha256: of that file, so that the settings alone say which world it is.
    """

    file: Annotated[Path, BeforeValidator(lambda value: Path(value) if value else value)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @pydantic.field_serializer("file", when_used="json")
    def _name(self, file: Path) -> str:
        """Where the file lies says nothing about the world."""
        return file.name


def _factors(value: Any) -> Any:
    return FactorsConfig(**value) if isinstance(value, dict) else value


def _kinds(value: Any) -> Any:
    """Tables of a TOML file become settings; anything else is left for the type check."""
    if isinstance(value, list | tuple):
        return tuple(KindConfig(**kind) if isinstance(kind, dict) else kind for kind in value)
    return value


def _logging(value: Any) -> Any:
    return LoggingConfig(**value) if isinstance(value, dict) else value


class WorldConfig(_Strict):
    """Settings of a planted world; probabilities are checked to lie in [0, 1].

    Attributes:
        name: goes to ``TableInfo.dataset`` of sampled tables.
        seed: of everything planted (tastes, items, popularity).
        users, items, clusters, dim: sizes of the population and width of the latent space.
        spread: noise of an item around its cluster's centre (0: all items of a cluster coincide).
        tastes: number of clusters a user likes.
        bias, scale, quality: logit of the attraction = bias + scale · <user, item> + quality · z,
            z standard normal per item.
        candidates, slots: N and L.
        examination: ``position`` (slot t is seen with chance decay^t, independently) or
            ``cascade`` (the next slot is seen with chance continue_click after a click,
            continue_skip otherwise).
        fatigue: attraction is multiplied by exp(-fatigue · sum of similarities to earlier slots).
        similarity_power: similarity = max(0, cosine)^power.
        complementarity: added to the logit when an item of the complementary cluster stands before.
        kinds: feedback kinds; reward = sum over slots and kinds of weight · P(kind).
        noise: unseen mood of a request: with equal chances all logits rise or fall by this much.
        drift: radians a day by which tastes turn.
        season, season_days: amplitude (logit) and period of the clusters' popularity waves.
        popularity_skew: popularity of the item of rank k ∝ (k + 1)^-skew; says nothing of quality.
        popularity_bias: weight of (standardised log) popularity in retrieval and in its score.
        retriever_noise: standard deviation of the noise in ``candidate_score`` (logit units).
        retriever_sharpness: how strongly retrieval prefers what the user likes.
        logging: the policy that fills the log.
        history: the longest history (lengths are uniform from half of it).
        requests_per_day: spacing of the requests in time.
        vector_features, vector_noise: whether items show a noisy copy of their latent vector.
        cluster_feature: whether items show their cluster.
        user_features: whether users have a side table with a noisy latent vector.
        factors: users, items and popularity fitted to a log, None: planted. `users`, `items` and
            `dim` must be theirs; `spread`, `tastes` and `popularity_skew` then say nothing.
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
        """Planted worlds say nothing of factors: their settings, and keys made of them, stay."""
        values: dict[str, Any] = handler(self)
        if values.get("factors") is None:
            values.pop("factors", None)
        return values

    @classmethod
    def load(cls, path: Path | str) -> WorldConfig:
        """Read a TOML file.

        Raises:
            ConfigError: the file is missing, is not TOML, or a setting is refused.
        """
        path = Path(path)
        values = read_toml(path, "world", "name a TOML file such as configs/worlds/fatigue.toml")
        factors = values.get("factors")
        if isinstance(factors, dict) and isinstance(factors.get("file"), str):
            values["factors"] = factors | {"file": path.parent / factors["file"]}
        return cls(**values)
