"""Settings of a simulated online test, read from a TOML file and checked as a whole."""

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

MEMBERS = ("dnn", "prm", "generator")  # rankers from which the generators of MG-E are made
_OWN = ("goalrank", "hybrid", "logging", "mg_e", "oracle")
# Fitted in closed form, by a reward, or not at all: daily supervised training does not fit them.
_NOT_DAILY = {"dpp", "egrank", "goalrank", "lambdamart", "mmr", "nlgr", "xgboost"}
_NAME = r"^[A-Za-z0-9_.-]{1,64}$"


def policy_names() -> list[str]:
    """List the policies that an arm can have."""
    return sorted({*_OWN, *ranker_names()} - (_NOT_DAILY - {"goalrank"}))


class _Strict(BaseModel):
    """Base of all sections: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ArmConfig(_Strict):
    """Arm of the test: a policy and its users.

    Attributes:
        name: of the arm, in files and in the `experiment` column.
        policy: "goalrank"; "mg_e" (multi-generator and evaluator); "hybrid" (GoalRank answers
            `share` of the arm's requests, MG-E the others); "logging" (the world's logging
            policy); "oracle" (the world's near-optimum); or a ranker trained by its own supervised
            loss.
        label: of the arm, in tables and figures; None takes the name.
        weight: number of users relative to the other arms, above 0.
        retrain: whether the arm learns from its own logs after each day; False keeps the models of
            the warm start.
        k: number of generators of MG-E and of the hybrid.
        share: share in (0, 1) of the hybrid's requests that GoalRank answers.
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
        """Name of the arm for people."""
        return self.label or self.name


class DailyConfig(_Strict):
    """Training after each day, from the weights of the day before.

    Attributes:
        light: steps of the supervised rankers.
        reward: steps of the reward model.
        training: steps of GoalRank.
        lr: peak learning rate of all three; warm-up takes a tenth of the steps.
    """

    light: int = Field(default=60, ge=1)
    reward: int = Field(default=120, ge=1)
    training: int = Field(default=60, ge=1)
    lr: float = Field(default=5e-4, gt=0)

    def loop(self, base: LoopConfig, steps: int) -> LoopConfig:
        """Make the daily loop from a loop of the recipe.

        Args:
            base: loop of the recipe.
            steps: of the daily loop.
        """
        short = {"steps": steps, "lr": self.lr, "warmup": steps // 10}
        return whole_loop(base.model_copy(update=short))


class OnlineConfig(_Strict):
    """Simulated online test.

    Attributes:
        name: of the experiment.
        world: TOML file of a world, relative to the file of the test.
        settings: settings of the world to change.
        arms: two or more.
        control: name of the arm that the others are compared with.
        days: number of days.
        requests: requests per day of all arms together; sets the world's `requests_per_day`.
        seeds: of traffic, assignment and training; the world stays the same.
        warm: number of requests of the common log, served by the world's logging policy before
            the test; every arm starts from models trained on it.
        window: number of days of its own logs that an arm learns from after each day; 0 takes all.
        explore: share in [0, 1] of requests that get a list drawn from the policy instead of its
            best list.
        temperature: of the drawn lists, above 0.
        salt: of the assignment; the seed is appended.
        confidence: of the intervals, in (0, 1).
        beam: width of the search for the near-optimum that regret is measured against.
        recipe: a training recipe: the models, and the loops of the warm start.
        daily: the training after each day.
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
            raise ValueError(
                f"control '{self.control}' is not an arm{nearest(self.control, names)}"
            )
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds {list(self.seeds)} must be at least 0 and not repeat")
        return self

    def world_config(self) -> WorldConfig:
        """Make the settings of the world, with the changes of this test.

        Raises:
            ConfigError: a changed setting does not exist, or a value that cannot be used.
        """
        for name in self.settings:
            if name not in WorldConfig.model_fields:
                hint = nearest(name, WorldConfig.model_fields)
                raise ConfigError(f"settings.{name} is not a setting of a world{hint}")
        base = WorldConfig.load(self.world).model_dump()
        return WorldConfig(**base | self.settings | {"requests_per_day": self.requests})

    def fit_config(self, world: WorldConfig) -> FitConfig:
        """Make the recipe for a world: its slots, and its feedback types with their weights in r*.

        Args:
            world: the settings of the world.

        Raises:
            ConfigError: a setting of the recipe cannot be used.
        """
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
        """List the models of an arm, in the order in which they are trained.

        Args:
            arm: the arm.
        """
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
    """Make a loop without early stopping, as no validation requests are held out.

    Args:
        loop: the loop.
    """
    return loop.model_copy(update={"patience": 0, "validate_every": loop.steps})


def load_online(path: str | Path) -> OnlineConfig:
    """Read the TOML file of a test; the path of the world in it is relative to that file.

    Args:
        path: of the file.

    Raises:
        ConfigError: the file cannot be read, or settings are wrong (all of them are named).
    """
    path = Path(path)
    data = read_toml(path, "online test", "name a TOML file such as configs/online/smoke.toml")
    if isinstance(data.get("world"), str):
        data["world"] = path.parent / data["world"]
    return build_online(data)


def build_online(data: Mapping[str, Any]) -> OnlineConfig:
    """Check a test given as nested dictionaries, with its world and its recipe.

    Args:
        data: the settings.

    Raises:
        ConfigError: settings are wrong (all of them are named).
    """
    config = checked(OnlineConfig, data, "the online test", "correct them in the file")
    config.fit_config(config.world_config())
    return config
