"""Settings of a simulated online test: a TOML file, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goalrank.errors import ConfigError
from goalrank.rankers import ranker_names
from goalrank.settings import checked, nearest, read_toml
from goalrank.training import FitConfig, LoopConfig, PartialRecipe
from goalrank.worlds import WorldConfig

MEMBERS = ("dnn", "prm", "generator")  # what MG-E's generators stand on
_OWN = ("goalrank", "hybrid", "logging", "mg_e", "oracle")
# Fitted in closed form, by a reward, or not at all: a daily supervised fit is not what they are.
_NOT_DAILY = {"dpp", "egrank", "goalrank", "lambdamart", "mmr", "nlgr"}
_NAME = r"^[A-Za-z0-9_.-]{1,64}$"


def policy_names() -> list[str]:
    """What an arm may serve by."""
    return sorted({*_OWN, *ranker_names()} - (_NOT_DAILY - {"goalrank"}))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArmConfig(_Strict):
    """An arm of the test.

    Attributes:
        name: in files and in the `experiment` column.
        policy: "goalrank"; "mg_e" (multi-generator and evaluator); "hybrid" (`share` of the arm's
            requests go to GoalRank, the others to MG-E); "logging" (the world's logging policy);
            "oracle" (the world's near-optimum); or a ranker fitted by its own supervised loss.
        label: in tables and figures; None is the name.
        weight: share of the users, relative to the other arms'.
        retrain: learn every night from the arm's own logs; False keeps the warm start.
        k: generators of MG-E and of the hybrid.
        share: of the hybrid's requests that GoalRank answers.
    """

    name: str = Field(pattern=_NAME)
    policy: str
    label: str | None = None
    weight: float = Field(default=1.0, gt=0)
    retrain: bool = True
    k: int = Field(default=20, ge=1)
    share: float = Field(default=0.3, gt=0, lt=1)

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str) -> str:
        known = policy_names()
        if value not in known:
            raise ValueError(f"policy '{value}' is unknown{nearest(value, known)}")
        return value

    @property
    def title(self) -> str:
        """For people."""
        return self.label or self.name


class DailyConfig(_Strict):
    """A night's training, from the weights of the day before.

    Attributes:
        light, reward, training: steps of supervised rankers, the reward model and GoalRank.
        lr: peak learning rate of all three; warm-up takes a tenth of the steps.
    """

    light: int = Field(default=60, ge=1)
    reward: int = Field(default=120, ge=1)
    training: int = Field(default=60, ge=1)
    lr: float = Field(default=5e-4, gt=0)

    def loop(self, base: LoopConfig, steps: int) -> LoopConfig:
        """The recipe's loop, as long and as fast as a night's."""
        short = {"steps": steps, "lr": self.lr, "warmup": steps // 10}
        return whole_loop(base.model_copy(update=short))


class OnlineConfig(_Strict):
    """A simulated online test.

    Attributes:
        name: of the experiment.
        world: a world's TOML file, relative to the test's own file.
        settings: settings of the world to change.
        arms: two or more.
        control: name of the arm that the others are compared with.
        days: of the test.
        requests: a day, all arms together; sets the world's `requests_per_day`.
        seeds: of traffic, assignment and training; the world stays the same.
        warm: requests of the common log, served by the world's logging policy before the test;
            every arm starts from models fitted to it.
        window: days of its own logs that an arm learns from each night; 0 = all.
        explore: share of requests answered by a draw from the policy instead of its best list.
        temperature: of that draw.
        salt: of the assignment; the seed is added.
        confidence: of intervals.
        beam: width of the search for the near-optimum that regret is measured against.
        recipe: a training recipe: models, and the loops of the warm start.
        daily: a night's training.
    """

    name: str = Field(default="online", pattern=_NAME)
    world: Path
    settings: dict[str, Any] = Field(default_factory=dict)
    arms: tuple[ArmConfig, ...] = Field(min_length=2)
    control: str
    days: int = Field(default=14, ge=1)
    requests: int = Field(ge=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    warm: int = Field(ge=1)
    window: int = Field(default=7, ge=0)
    explore: float = Field(default=0.1, ge=0, le=1)
    temperature: float = Field(default=1.0, gt=0)
    salt: str = "online"
    confidence: float = Field(default=0.95, gt=0, lt=1)
    beam: int = Field(default=16, ge=1)
    recipe: PartialRecipe = Field(default_factory=dict)
    daily: DailyConfig = DailyConfig()

    @model_validator(mode="after")
    def _whole(self) -> OnlineConfig:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms share a name: {names}")
        if self.control not in names:
            raise ValueError(f"control '{self.control}' is no arm{nearest(self.control, names)}")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds {list(self.seeds)} must be at least 0 and not repeat")
        return self

    def world_config(self) -> WorldConfig:
        """The world with the changed settings."""
        for name in self.settings:
            if name not in WorldConfig.model_fields:
                hint = nearest(name, WorldConfig.model_fields)
                raise ConfigError(f"settings.{name} is no setting of a world{hint}")
        base = WorldConfig.load(self.world).model_dump()
        return WorldConfig(**base | self.settings | {"requests_per_day": self.requests})

    def fit_config(self, world: WorldConfig) -> FitConfig:
        """The recipe for a world: its slots, and its kinds with the weights they have in r*."""
        kinds = {"kinds": [k.name for k in world.kinds], "weights": [k.weight for k in world.kinds]}
        sections = {
            "ranker": {**self.recipe.get("ranker", {}), "slots": world.slots},
            "reward": {**kinds, **self.recipe.get("reward", {})},
        }
        fit = checked(
            FitConfig, {**self.recipe, **sections}, "the online test", "correct them in the file",
            prefix="recipe.",
        )  # fmt: skip
        loops = {"light_loop": whole_loop(fit.light_loop), "training": whole_loop(fit.training)}
        reward = fit.reward.model_copy(update={"loop": whole_loop(fit.reward.loop)})
        return fit.model_copy(update={**loops, "reward": reward})

    def needs(self, arm: ArmConfig) -> tuple[str, ...]:
        """Models that an arm is made of, in the order in which they are trained."""
        light = tuple(self.recipe.get("light", FitConfig().light))
        parts = {
            "goalrank": (*light, "reward", "goalrank"),
            "mg_e": (*MEMBERS, "reward"),
            "hybrid": (*light, *MEMBERS, "reward", "goalrank"),
            "logging": (),
            "oracle": (),
        }
        return tuple(dict.fromkeys(parts.get(arm.policy, (arm.policy,))))


def whole_loop(loop: LoopConfig) -> LoopConfig:
    """The loop in one interval: nothing is held out, so nothing stops it early."""
    return loop.model_copy(update={"patience": 0, "validate_every": loop.steps})


def load_online(path: str | Path) -> OnlineConfig:
    """Read a test's TOML file; the world's path inside is relative to it.

    Raises:
        ConfigError: the file cannot be read, or every fault of its settings.
    """
    path = Path(path)
    data = read_toml(path, "online test", "name a TOML file such as configs/online/smoke.toml")
    if isinstance(data.get("world"), str):
        data["world"] = path.parent / data["world"]
    return build_online(data)


def build_online(data: Mapping[str, Any]) -> OnlineConfig:
    """Check a test given as nested dictionaries, its world and its recipe; see `load_online`."""
    config = checked(OnlineConfig, data, "the online test", "correct them in the file")
    config.fit_config(config.world_config())
    return config
