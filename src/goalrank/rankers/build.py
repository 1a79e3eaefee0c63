"""Rankers by name, at a size."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goalrank.encoders import EncoderSizes
from goalrank.errors import ConfigError
from goalrank.rankers.base import Ranker
from goalrank.rankers.dnn import DNN
from goalrank.rankers.generator import Generator
from goalrank.rankers.prm import PRM
from goalrank.requests import InputSpec

# width, layers, heads, ratio of the decoder's network; about 10^5 … 10^9 parameters beside ids.
PRESETS: dict[str, tuple[int, int, int, int]] = {
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
        slots: L that the ranker is trained for.
        beam: of the generator's decoding; 1 = greedy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "goalrank"
    preset: Literal["xs", "s", "m", "l", "xl", "xxl"] = "xs"
    width: int | None = Field(None, ge=8)
    layers: int | None = Field(None, ge=0)
    heads: int | None = Field(None, ge=1)
    ratio: int | None = Field(None, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    id_dropout: float = Field(0.05, ge=0, lt=1)
    inducing: int = Field(0, ge=0)
    user_ids: bool = False
    slots: int = Field(6, ge=1)
    beam: int = Field(1, ge=1)

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
        )


Builder = Callable[[InputSpec, RankerConfig], Ranker]


def _generator(spec: InputSpec, config: RankerConfig) -> Ranker:
    ratio = config.ratio or PRESETS[config.preset][3]
    return Generator(spec, config.sizes(), config.slots, ratio, config.beam)


_BUILDERS: dict[str, Builder] = {
    "dnn": lambda spec, config: DNN(spec, config.sizes()),
    "generator": _generator,
    "goalrank": _generator,
    "prm": lambda spec, config: PRM(spec, config.sizes()),
}


def ranker_names() -> list[str]:
    """Names that `build_ranker` knows."""
    return sorted(_BUILDERS)


def build_ranker(spec: InputSpec, config: RankerConfig) -> Ranker:
    """A fresh ranker.

    Raises:
        ConfigError: the name is unknown; the nearest is suggested.
    """
    if config.name not in _BUILDERS:
        near = difflib.get_close_matches(config.name, ranker_names(), 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"ranker '{config.name}' is unknown{hint} Known: {', '.join(ranker_names())}; "
            f"option: ranker.name"
        )
    return _BUILDERS[config.name](spec, config)


def parameter_count(module: Any) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
