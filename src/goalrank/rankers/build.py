"""Rankers by name, at a size."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goalrank.encoders import EncoderSizes
from goalrank.errors import ConfigError
from goalrank.rankers.base import Ranker
from goalrank.rankers.baselines.diversity import DPP, MMR
from goalrank.rankers.composite.pier import PIER
from goalrank.rankers.composite.prs import PRS
from goalrank.rankers.goalrank.generator import Generator
from goalrank.rankers.scorers.dlcm import DLCM
from goalrank.rankers.scorers.dnn import DNN
from goalrank.rankers.scorers.lambdamart import LambdaMART
from goalrank.rankers.scorers.mir import MIR
from goalrank.rankers.scorers.prm import PRM
from goalrank.rankers.scorers.rankmixer import RankMixer
from goalrank.rankers.scorers.setrank import SetRank
from goalrank.rankers.sequential.nar4rec import NAR4Rec
from goalrank.rankers.sequential.nlgr import NLGR
from goalrank.rankers.sequential.seq2slate import EGRank, Seq2Slate
from goalrank.requests import InputSpec
from goalrank.settings import did_you_mean

# width, layers, heads, ratio of the decoder's network; about 10^4 … 10^9 parameters beside ids.
PRESETS: dict[str, tuple[int, int, int, int]] = {
    "xxs": (16, 1, 2, 2),
    "xs": (64, 2, 4, 2),
    "s": (128, 2, 4, 2),
    "m": (256, 4, 8, 4),
    "l": (512, 6, 8, 4),
    "xl": (1024, 8, 16, 4),
    "xxl": (2048, 20, 16, 4),
}


class RankerConfig(BaseModel):
    """A ranker's name and size.

    Attributes:
        name: which ranker, see `ranker_names()`.
        preset: a named size; width, layers, heads and ratio override it.
        id_dropout: share of ids swapped in training for a bucket that many share. Near 1 leaves
            items to their features, where requests are few and vectors would learn them by heart.
        id_width: numbers learned an id, brought to `width` by a shared matrix; 0 = `width`.
        slots: L that the ranker is trained for.
        beam: of the generator's decoding; 1 = greedy.
        options: settings of this ranker alone, see `ranker_options(name)`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "goalrank"
    preset: Literal["xxs", "xs", "s", "m", "l", "xl", "xxl"] = "xs"
    width: int | None = Field(default=None, ge=8)
    layers: int | None = Field(default=None, ge=0)
    heads: int | None = Field(default=None, ge=1)
    ratio: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    id_dropout: float = Field(default=0.05, ge=0, lt=1)
    inducing: int = Field(default=0, ge=0)
    user_ids: bool = False
    id_width: int = Field(default=0, ge=0)
    slots: int = Field(default=6, ge=1)
    beam: int = Field(default=1, ge=1)
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _divisible(self) -> RankerConfig:
        sizes = self.sizes()
        if sizes.width % sizes.heads or sizes.width % 2:
            raise ValueError(
                f"width {sizes.width} must be even and divisible by heads {sizes.heads}"
            )
        return self

    def sizes(self) -> EncoderSizes:
        """The encoder's sizes."""
        width, layers, heads, _ = PRESETS[self.preset]
        return EncoderSizes(
            width=self.width or width,
            layers=layers if self.layers is None else self.layers,
            heads=self.heads or heads,
            dropout=self.dropout,
            id_dropout=self.id_dropout,
            inducing=self.inducing,
            user_ids=self.user_ids,
            id_width=self.id_width,
        )


Builder = Callable[[InputSpec, RankerConfig], Ranker]


def _generator(spec: InputSpec, config: RankerConfig) -> Ranker:
    ratio = config.ratio or PRESETS[config.preset][3]
    return Generator(spec, config.sizes(), config.slots, ratio, config.beam)


def _plain(cls: type[Ranker]) -> Builder:
    """Rankers built from (spec, sizes) and their options."""
    make = cast(Callable[..., Ranker], cls)
    return lambda spec, config: make(spec, config.sizes(), **config.options)


def _with_slots(cls: type[Ranker]) -> Builder:
    """Rankers that also have vectors for L slots."""
    make = cast(Callable[..., Ranker], cls)
    return lambda spec, config: make(spec, config.sizes(), config.slots, **config.options)


def _baseline(cls: type[Ranker]) -> Builder:
    """Baselines over the retriever's score: nothing to size."""
    make = cast(Callable[..., Ranker], cls)
    return lambda spec, config: make(**config.options)


_CLASSES: dict[str, tuple[type[Ranker], Callable[[type[Ranker]], Builder]]] = {
    "dlcm": (DLCM, _plain),
    "dnn": (DNN, _plain),
    "dpp": (DPP, _baseline),
    "egrank": (EGRank, _plain),
    "lambdamart": (LambdaMART, _plain),
    "mir": (MIR, _plain),
    "mmr": (MMR, _baseline),
    "nar4rec": (NAR4Rec, _with_slots),
    "nlgr": (NLGR, _with_slots),
    "pier": (PIER, _with_slots),
    "prm": (PRM, _plain),
    "prs": (PRS, _plain),
    "rankmixer": (RankMixer, _plain),
    "seq2slate": (Seq2Slate, _plain),
    "setrank": (SetRank, _plain),
}
_BUILDERS: dict[str, Builder] = {
    "generator": _generator,
    "goalrank": _generator,
    **{name: build(cls) for name, (cls, build) in _CLASSES.items()},
}


def ranker_names() -> list[str]:
    """Names that `build_ranker` knows."""
    return sorted(_BUILDERS)


def ranker_options(name: str) -> dict[str, Any]:
    """What `RankerConfig.options` may hold for a ranker, with the defaults."""
    if name not in _CLASSES:
        return {}
    parameters = inspect.signature(_CLASSES[name][0]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _check_options(config: RankerConfig) -> None:
    known = ranker_options(config.name)
    for name, value in config.options.items():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(
                f"ranker '{config.name}' has no option '{name}'{hint} Known: "
                f"{', '.join(sorted(known)) or 'none'}; option: ranker.options.{name}"
            )
        wanted = type(known[name]) if known[name] is not None else int
        fits = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
        if not fits and not (wanted is float and type(value) is int):
            raise ConfigError(
                f"option '{name}' of ranker '{config.name}' is {value!r}, but must be of type "
                f"{wanted.__name__}; option: ranker.options.{name}"
            )


def build_ranker(spec: InputSpec, config: RankerConfig) -> Ranker:
    """A fresh ranker.

    Raises:
        ConfigError: the name or an option is unknown; the nearest is suggested.
    """
    if config.name not in _BUILDERS:
        hint = did_you_mean(config.name, ranker_names())
        raise ConfigError(
            f"ranker '{config.name}' is unknown{hint} Known: {', '.join(ranker_names())}; "
            f"option: ranker.name"
        )
    _check_options(config)
    return _BUILDERS[config.name](spec, config)


def parameter_count(module: Any) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
