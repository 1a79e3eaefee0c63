"""A ranker's name and size, and what its constructor is given from them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goalrank.constructor_options import check_options, keyword_options
from goalrank.encoders import EncoderSizes
from goalrank.errors import ConfigError
from goalrank.requests import InputSpec
from goalrank.settings import nearest

# width, layers, heads, ratio of the decoder's network; about 10^4 … 10^9 parameters without ids.
PRESETS: dict[str, tuple[int, int, int, int]] = {
    "xxs": (16, 1, 2, 2),
    "xs": (64, 2, 4, 2),
    "s": (128, 2, 4, 2),
    "m": (256, 4, 8, 4),
    "l": (512, 6, 8, 4),
    "xl": (1024, 8, 16, 4),
    "xxl": (2048, 20, 16, 4),
}

IdDropout = Annotated[float, Field(ge=0, lt=1)] | Literal["auto"]
_ID_DROPOUT = 0.05  # of a model that is made before its training requests are known


def known_id_dropout(value: float | Literal["auto"]) -> float:
    """The share itself; a small one where the training requests have yet to decide."""
    return _ID_DROPOUT if value == "auto" else float(value)


class RankerConfig(BaseModel):
    """A ranker's name and size.

    Attributes:
        name: which ranker: one of `ranker_names()`, or "package.module:Class".
        preset: a named size of `PRESETS`; width, layers, heads and ratio override it.
        width: D, of the request encoder and of the ranker.
        layers: self-attention layers over the candidates; 0 encodes each candidate separately.
        heads: attention heads; they divide the width.
        ratio: hidden width of the decoder's network, as a multiple of `width`.
        dropout: probability of dropout in training.
        id_dropout: share of ids swapped in training for a bucket that many share. Near 1 leaves
            items to their features, where requests are few and vectors would learn them by heart.
            "auto" follows from the training requests.
        inducing: 0 for full attention; M > 0 for attention through M points, for large N.
        user_ids: learn a vector per user id beside features and history.
        id_width: numbers learned an id, brought to `width` by a shared matrix; 0 = `width`.
        slots: L that the ranker is trained for.
        beam: of the generator's decoding; 1 = greedy.
        options: settings of this ranker alone, see `ranker_options(name)`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "goalrank"
    preset: str = "xs"
    width: int | None = Field(default=None, ge=8)
    layers: int | None = Field(default=None, ge=0)
    heads: int | None = Field(default=None, ge=1)
    ratio: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    id_dropout: IdDropout = 0.05
    inducing: int = Field(default=0, ge=0)
    user_ids: bool = False
    id_width: int = Field(default=0, ge=0)
    slots: int = Field(default=6, ge=1)
    beam: int = Field(default=1, ge=1)
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @field_validator("preset")
    @classmethod
    def _known(cls, preset: str) -> str:
        if preset not in PRESETS:
            raise ValueError(f"no such preset{nearest(preset, PRESETS)}")
        return preset

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
            id_dropout=known_id_dropout(self.id_dropout),
            inducing=self.inducing,
            user_ids=self.user_ids,
            id_width=self.id_width,
        )


def constructor_arguments(
    cls: Callable[..., object], spec: InputSpec, config: RankerConfig
) -> dict[str, Any]:
    """What a ranker's constructor is given, by the names of its parameters.

    Parameters before the star are taken from the request's sizes and the configuration: `spec`,
    `sizes` (of the encoder), `slots`, `ratio`, `beam`; others keep their defaults. Parameters after
    the star are the ranker's own options, taken from `config.options`.

    Raises:
        ConfigError: an option is unknown, missing or of the wrong type; or a parameter before the
            star has another name and no default.
    """
    given: dict[str, Any] = {
        "spec": spec,
        "sizes": config.sizes(),
        "slots": config.slots,
        "ratio": config.ratio or PRESETS[config.preset][3],
        "beam": config.beam,
    }
    check_options(config.options, keyword_options(cls), f"ranker '{config.name}'", "ranker.options")
    arguments = dict(config.options)
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            continue
        if parameter.name in given:
            arguments[parameter.name] = given[parameter.name]
        elif parameter.default is parameter.empty:
            raise ConfigError(
                f"ranker '{config.name}' wants a parameter '{parameter.name}', which no setting "
                f"gives; remedy: name it one of {', '.join(given)}, put it after the star as an "
                f"option, or write a classmethod from_config(spec, config)"
            )
    return arguments


def check_divides(count: int, width: int, what: str, option: str) -> None:
    """Refuse a number of equal parts that a width cannot be cut into.

    Args:
        count: of the parts.
        width: D.
        what: the parts, for people.
        option: the ranker's own option that sets their number.

    Raises:
        ConfigError: fewer than one part, or the width is no multiple of their number.
    """
    if count < 1 or width % count:
        raise ConfigError(
            f"{count} {what} do not divide the width {width}; remedy: choose a divisor of it; "
            f"option: ranker.options.{option}"
        )
