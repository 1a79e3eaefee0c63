"""Settings of a training job: strict, from TOML, with command-line overrides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from goalrank.errors import ConfigError
from goalrank.rankers import IdDropout, RankerConfig
from goalrank.requests import EncoderConfig
from goalrank.rewards import REWARDS, Link
from goalrank.settings import checked, parse_override, read_toml, with_new_names
from goalrank.training.groups.config import GroupConfig
from goalrank.training.objectives.group_objectives import OBJECTIVES

Weight = Annotated[float, Field(ge=0)] | Literal["auto"]


def known_weight(value: float | Literal["auto"]) -> float:
    """The weight itself; 0 where the training requests have yet to decide."""
    return 0.0 if value == "auto" else float(value)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_FEWEST_STEPS, _MOST_STEPS = 200, 3000
# Small logs are read oftener: docs/decisions/0025.
_PASSES_OF_FEW, _STEPS_OF_FEW = 4, 600


class LoopConfig(_Strict):
    """How long and how fast to fit.

    Attributes:
        steps: optimiser steps at most; 0 = two passes over the training requests (one for a
            generator with a warm start), but at least 600 steps or four passes, whichever is fewer;
            always 200 to 3000 steps.
        batch_size: requests per step.
        lr: peak learning rate (AdamW); rises over `warmup` steps, then falls by a cosine.
        weight_decay: of AdamW; the wide path, norms and biases have none.
        wide_rate: learning rate of the wide path, as a share of `lr`; 0 keeps its solution.
        warmup: steps over which the learning rate rises.
        clip: largest gradient norm; 0 = no clipping.
        validate_every: steps between validations, checkpoints and early-stop decisions; 0 = twice
            a pass over the training requests, and at least every 200 steps.
        patience: validations without improvement before stopping; 0 = never stop early.
        precision: of the matrix products.
        shard_items: keep a block of rows of the id tables (items, and users where they have one)
            in each process, so that large catalogues fit; no effect in one process.
    """

    steps: int = Field(default=2000, ge=0)
    batch_size: int = Field(default=64, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    wide_rate: float = Field(default=0.1, ge=0)
    warmup: int = Field(default=50, ge=0)
    clip: float = Field(default=1.0, ge=0)
    validate_every: int = Field(default=200, ge=0)
    patience: int = Field(default=5, ge=0)
    precision: Literal["32-true", "bf16-mixed", "bf16-true"] = "32-true"
    shard_items: bool = False

    def over(self, requests: int, passes: int = 2) -> Self:
        """Resolve `steps` = 0 and `validate_every` = 0.

        Args:
            requests: training requests.
            passes: over many of them, where steps are not given.
        """
        one_pass = requests / self.batch_size
        least = max(_FEWEST_STEPS, min(math.ceil(_PASSES_OF_FEW * one_pass), _STEPS_OF_FEW))
        steps = self.steps or min(max(math.ceil(passes * one_pass), least), _MOST_STEPS)
        every = self.validate_every or min(200, max(math.ceil(one_pass / 2), 1))
        return self.model_copy(update={"steps": steps, "validate_every": every})


LIST_REWARD = "list_reward"


class RewardLoopConfig(LoopConfig):
    """The loop of a reward model, validated more often on small logs.

    A reward model overfits within a few passes over the log (docs/decisions/0018), and early
    stopping sees that only at validations.
    """

    validate_every: int = Field(default=0, ge=0)


class RewardConfig(_Strict):
    """The reward that the generator is trained with; by default the list reward model.

    Rewards of other classes take their settings from `options`; of the settings below, `members`,
    `pessimism` and `observed` are theirs as well, and the others are the list reward model's alone.

    Attributes:
        name: which reward: one of `goalrank.rewards.REWARDS`, or "package.module:Class".
        options: settings of a reward that is not the list reward model.
        kinds: feedback kinds to predict; none = every kind whose training values are in [0, 1].
        weights: weight of each kind in the reward; none = 1 for the target and 0 for the others.
        members: models in the ensemble, trained with different seeds.
        pessimism: β in mean − β · deviation over the ensemble.
        width, layers, heads: of the request encoder.
        dropout: probability of dropout in training.
        id_dropout: share of ids swapped in training for a bucket that many share; "auto" follows
            from the training requests.
        user_ids: learn a vector per user id beside features and history.
        id_width: width of the id vectors, projected to `width` by a shared matrix; 0 = `width`.
        list_layers, relations: of the list model, see `ListReward`.
        positions: whether slots have their own vectors; False with list_layers 0 and relations 0 is a
            reward that is blind to order.
        neighbours: whether slots see one another; False is a reward of single items and their slots,
            with the same network.
        causal: a slot's feedback depends on earlier slots only (feeds); False for pages.
        link: how an item's own worth and what the list does to it meet, see `ListReward`: "sum"
            of logits, or "product" of probabilities, as in click models.
        slot_weights: "ones" (feedback itself tells what a slot is worth), "dcg" (discounted), or
            "auto": ones for exposed lists, dcg otherwise.
        unexposed: candidates not shown are ignored or count as no feedback; "auto": ignored for
            exposed lists, negative otherwise.
        lists: lists per request in training, where unexposed counts as negative.
        observed: weight of the logged feedback itself, as discounted gain of a list, added to the
            learned reward. It is unbiased where every candidate's relevance is known, and
            ignores how items of a list affect each other. "auto" is 1 where nearly every
            candidate's relevance is known, and 0 elsewhere.
        listwise: weight of a cross-entropy over the request's candidates, added to each slot's log
            loss, where unexposed counts as negative: a group needs the right order more than the
            right probability, and a few drawn lists show only some of the candidates.
        propensity_cap: above 1, logged lists are weighed by how much rarer the logging policy
            made them than a random one would have, within [1/cap, cap]; 0 = equal weights.
    """

    name: str = LIST_REWARD
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    kinds: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    members: int = Field(default=1, ge=1)
    pessimism: float = Field(default=0.0, ge=0)
    width: int = Field(default=64, ge=8)
    layers: int = Field(default=0, ge=0)
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    id_dropout: IdDropout = 0.05
    user_ids: bool = False
    id_width: int = Field(default=0, ge=0)
    list_layers: int = Field(default=1, ge=0)
    relations: int = Field(default=4, ge=0)
    positions: bool = True
    neighbours: bool = True
    causal: bool = True
    link: Link = "sum"
    slot_weights: Literal["auto", "ones", "dcg"] = "auto"
    unexposed: Literal["auto", "ignore", "negative"] = "auto"
    lists: int = Field(default=4, ge=1)
    observed: Weight = 0.0
    listwise: float = Field(default=1.0, ge=0)
    propensity_cap: float = Field(default=0.0, ge=0)
    loop: RewardLoopConfig = RewardLoopConfig(steps=3000)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in ("ensemble", "weighted"):
            raise ValueError("made of other rewards; see reward.members and reward.observed")
        return REWARDS.checked(name)

    @model_validator(mode="after")
    def _has_its_options(self) -> RewardConfig:
        if self.name == LIST_REWARD and self.options:
            raise ValueError(
                f"the list reward model has no options {sorted(self.options)}; its settings stand "
                f"beside name"
            )
        return self

    @field_validator("propensity_cap")
    @classmethod
    def _above_one(cls, cap: float) -> float:
        if 0 < cap <= 1:
            raise ValueError("0, or above 1")
        return cap


class ObjectiveConfig(_Strict):
    """The generator's training objective.

    Attributes:
        name: one of `goalrank.training.OBJECTIVES` (the paper's is group_relative),
            "package.module:function", or "supervised": the ranker's own loss on labels.
        temperature: τ of the reference policy.
        slot_group_share: share of the steps that learn from slot groups instead of groups of
            lists: a sampled list with one slot given to every candidate in turn, so that a group
            compares all candidates at once. 0 is the paper's method; reinforce, whose lists must
            be the policy's own samples, has none.
        supervised: weight of the cross-entropy on logged positives; "auto" is 1 where nearly every
            candidate's relevance is known, and 0 elsewhere.
        warm_start: the generator's encoder begins as the reward model's, which knows the users'
            tastes already; needs the same width and ids in both, and "auto" asks whether they are.
        linear_start: the generator begins as the linear model that is fitted to the labels; False
            begins at zero, as the paper's does.
        monitor: what validation keeps the best weights by: the target's ndcg of the emitted list,
            the learned reward of it, or nothing (the last weights are kept).
    """

    renamed: ClassVar[Mapping[str, str]] = {"slots": "slot_group_share"}

    name: str = "group_relative"
    temperature: float = Field(default=0.5, gt=0)
    slot_group_share: float = Field(default=0.5, ge=0, le=1)
    supervised: Weight = 0.0
    warm_start: bool | Literal["auto"] = False
    linear_start: bool = True
    monitor: Literal["ndcg", "reward", "none"] = "ndcg"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return OBJECTIVES.checked(name, also=("supervised",))


class FitConfig(_Strict):
    """A whole training job; the sections of a recipe's TOML file.

    Attributes:
        seed: of everything random.
        light: light models trained first: they propose lists for the groups, and are compared.
        pretrain: steps of next-item prediction on histories before anything else; 0 = none.
    """

    seed: int = 0
    light: tuple[str, ...] = ("dnn", "prm")
    pretrain: int = Field(default=0, ge=0)
    encoder: EncoderConfig = EncoderConfig()
    ranker: RankerConfig = RankerConfig()
    light_loop: LoopConfig = LoopConfig()
    reward: RewardConfig = RewardConfig()
    group: GroupConfig = GroupConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: LoopConfig = LoopConfig()

    @model_validator(mode="after")
    def _begins_alike(self) -> FitConfig:
        if self.objective.warm_start is not True or (different := self.unlike()) is None:
            return self
        mine, its = self.ranker.sizes(), self.reward
        raise ValueError(
            f"objective.warm_start needs ranker.{different} = {getattr(mine, different)} and "
            f"reward.{different} = {getattr(its, different)} to be the same"
        )

    def unlike(self) -> str | None:
        """A size in which the encoders of the ranker and of the reward model differ, if any."""
        mine, its = self.ranker.sizes(), self.reward
        sizes = ("width", "user_ids", "id_width")
        return next((s for s in sizes if getattr(mine, s) != getattr(its, s)), None)


def _new_names(data: dict[str, Any]) -> dict[str, Any]:
    return with_new_names(FitConfig, data, "the recipe")


PartialRecipe = Annotated[dict[str, Any], AfterValidator(_new_names)]
"""Some settings of a `FitConfig` as nested dictionaries, which others are laid over later."""


def load_config(
    source: FitConfig | str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> FitConfig:
    """Read a recipe and apply overrides.

    Args:
        source: a recipe's file, or settings made already; None takes the defaults.
        overrides: texts such as "training.lr=3e-4", or name → value ({"training.lr": 3e-4}, or
            nested: {"training": {"lr": 3e-4}}).

    Raises:
        ConfigError: every fault at once, each with its setting's name.
    """
    data: dict[str, Any] = {}
    if isinstance(source, FitConfig):
        if not overrides:
            return source
        data = source.model_dump(exclude_unset=True)
    elif source is not None:
        data = read_toml(source, "recipe", "name a recipe's TOML file (option: --config)")
        data = with_new_names(FitConfig, data, f"recipe '{source}'")
    pairs = (
        overrides.items()
        if isinstance(overrides, Mapping)
        else [parse_override(each, "training.lr=3e-4") for each in overrides]
    )
    for name, value in pairs:
        _apply(data, name, value)
    return build_config(data)


def build_config(data: dict[str, Any]) -> FitConfig:
    """Check settings given as nested dictionaries; see `load_config`."""
    remedy = "correct them in the recipe or with --set NAME=VALUE"
    return checked(FitConfig, data, "the recipe", remedy)


def _apply(data: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _apply(data, f"{name}.{key}", inner)
        return
    *path, last = name.split(".")
    nested: dict[str, Any] = {last: value}
    for key in reversed(path):
        nested = {key: nested}
    nested = with_new_names(FitConfig, nested, f"override '{name}={value}'")
    for _ in path:
        ((key, nested),) = nested.items()
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError(f"override '{name}={value}': '{key}' is not a section")
    data |= nested
