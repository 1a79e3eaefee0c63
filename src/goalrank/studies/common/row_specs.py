"""Rows of a suite: rankers by name, and rankers made of several others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from goalrank.constructor_options import check_options, keyword_options
from goalrank.errors import ConfigError
from goalrank.rankers import RANKERS, Ranker
from goalrank.registry import Registry
from goalrank.settings import did_you_mean, warn_renamed
from goalrank.training import OBJECTIVES, NeighbourTask, PartialRecipe, PPOTask, Task

_HERE = "goalrank.studies.common.composites"
COMPOSITES: Registry[Callable[..., dict[str, Ranker]]] = Registry(
    "composite",
    None,
    {
        name: f"{_HERE}:{name}"
        for name in (
            "baselines",
            "best_of",
            "clig",
            "dpp_learned",
            "ensemble",
            "evaluator_sort",
            "mg_e",
            "mg_e_copies",
            "mmr_learned",
            "trees_over",
        )
    },
    option="rankers.name",
)
# Rankers whose own way of learning is against the shared reward, step by step.
OWN_TASKS: dict[str, Callable[..., Task[Any]]] = {"egrank": PPOTask, "nlgr": NeighbourTask}
_PRETRAINING = 500  # steps of next-item prediction on histories
_GIVEN = {"reward", "slots"}  # arguments of a task that no row sets
_RENAMED = {"rules": "baselines"}  # old name of a row → new name
_SECTIONS = (
    "ranker",
    "training",
    "light",
    "light_loop",
    "reward",
    "group",
    "objective",
    "pretrain",
    "encoder",
)
_TAUGHT = ("goalrank", *OWN_TASKS)
_WITHOUT_REWARD = ("baselines", "ensemble", "mmr_learned", "dpp_learned", "trees_over")


class BiasSpec(BaseModel):
    """Bias of the reward by which a row is trained, in standard deviations of the reward.

    Attributes:
        noise: λ in [0, 1] of (1 − λ) r̂ + λ ε, ε Gaussian and constant per list.
        popularity: weight of the mean popularity of a list's items.
        position: weight of how early a list's items were in the order of the logging policy or of
            the retriever.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise: float = Field(default=0.0, ge=0, le=1)
    popularity: float = 0.0
    position: float = 0.0


class RowSpec(BaseModel):
    """One row of the tables.

    Attributes:
        name: a ranker's name or class path, or a composite of `COMPOSITES`: best_of, mg_e,
            mg_e_copies, clig, evaluator_sort, ensemble, mmr_learned, dpp_learned, trees_over, baselines
            (every ranker without learning that the data allow).
        label: printed in tables, unique in the suite; by default the name.
        objective: "own" is the ranker's own training (GoalRank on groups, EGRank by PPO, NLGR by
            neighbours, others by their supervised loss); any objective of
            `goalrank.training.OBJECTIVES`, or "package.module:function", trains a ranker with the
            shared reward, if it gives every list a probability (PIER and PRS do not); "supervised" trains it by its own loss.
        options: options of the ranker, or of the composite (k, base, lists, …).
        task: settings of PPO or of the neighbours.
        set: overrides of the recipe for this row only, such as {group = {own = 20}}. Of the encoder's
            settings, its trees' scores and its history also change what the light models and the
            reward model of the row see.
        bias: of the reward, see `BiasSpec`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label: str = ""
    objective: str = "own"
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    task: dict[str, int | float] = Field(default_factory=dict)
    set: PartialRecipe = Field(default_factory=dict)
    bias: BiasSpec = BiasSpec()

    @property
    def is_composite(self) -> bool:
        """Made of other rankers, or of none that learns."""
        return self.name in COMPOSITES.builtin_names

    @property
    def labels_only(self) -> bool:
        """Whether the row is trained by its supervised loss and uses no reward."""
        if self.objective == "own":
            return self.name not in _TAUGHT and not self.is_composite
        return self.objective == "supervised"

    @property
    def trains_on_labels(self) -> bool:
        """Whether what the row trains itself, its members too, learns from labels alone."""
        return self.labels_only or self.is_composite

    @property
    def rewarded(self) -> bool:
        """Whether the row is trained by the shared reward or chooses by it."""
        return not self.labels_only and self.name not in _WITHOUT_REWARD

    @field_validator("label")
    @classmethod
    def _printable(cls, label: str) -> str:
        if not label.isprintable():  # values are kept in columns "label, tab, metric"
            raise ValueError("must have no tabs, line breaks or other control characters")
        return label

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, name: str) -> str:
        return OBJECTIVES.checked(name, also=("own", "supervised"))

    @model_validator(mode="before")
    @classmethod
    def _labelled(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if "name" in data:
            data = {**data, "name": _current(data["name"])}
        return data if data.get("label") else {**data, "label": str(data.get("name", ""))}

    @model_validator(mode="after")
    def _known(self) -> RowSpec:
        if (fault := RANKERS.fault(self.name, also=COMPOSITES.builtin_names)) is not None:
            raise ConfigError(f"{fault}; option: rankers.name")
        made_by = COMPOSITES[self.name] if self.is_composite else RANKERS[self.name]
        known = keyword_options(made_by)
        check_options(self.options, known, f"ranker '{self.name}'", "rankers.options")
        task = keyword_options(OWN_TASKS[self.name]) if self.name in OWN_TASKS else {}
        settable = {name: default for name, default in task.items() if name not in _GIVEN}
        check_options(self.task, settable, f"training of '{self.name}'", "rankers.task")
        for section in self.set:
            if section not in _SECTIONS:
                raise ConfigError(
                    _unknown(f"section of row '{self.label}'", section, _SECTIONS, "rankers.set")
                )
        if self.is_composite and "base" in self.options:
            RANKERS.check(str(self.options["base"]), option="rankers.options.base")
        if self.is_composite and self.objective != "own":
            raise ConfigError(
                f"row '{self.label}': '{self.name}' is made of trained rankers and has no objective "
                f"of its own; remedy: leave objective out (option: rankers.objective)"
            )
        self._check_objective(made_by)
        return self

    def _check_objective(self, made_by: object) -> None:
        """Refuse an objective on groups for a ranker that most lists of a group are impossible for."""
        if self.objective in ("own", "supervised") or getattr(made_by, "any_list", True):
            return
        raise ConfigError(
            f"row '{self.label}': '{self.name}' chooses from lists of its own, and every other list has "
            f"probability 0, so that objective '{self.objective}' on groups would be infinite; remedy: "
            f"leave objective out, or another ranker (option: rankers.objective)"
        )


def rename_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Replace old names of rows, as an earlier goalrank stored them, by the current ones.

    Args:
        rows: as tables.
    """
    return [{**row, "name": _RENAMED.get(row["name"], row["name"])} for row in rows]


def _current(name: Any) -> Any:
    """Replace an old name of a row by the current one, with a warning."""
    if not isinstance(name, str) or name not in _RENAMED:
        return name
    warn_renamed(name, _RENAMED[name], "rankers")
    return _RENAMED[name]


def _unknown(what: str, name: str, known: Any, option: str) -> str:
    hint, names = did_you_mean(name, known) or ".", ", ".join(known) or "none"
    return f"{what} '{name}' is unknown{hint} Known: {names}; option: {option}"


# The method as the paper and its authors' code have it; docs/papers.md names what it leaves open.
PAPER: dict[str, Any] = {
    "light": ["dnn", "prm"],
    "objective": {
        "name": "group_relative_sample",
        "temperature": 1.0,
        "slot_group_share": 0.0,
        "supervised": 0.0,
        "warm_start": False,
        "linear_start": False,
    },
    "group": {
        "own": 12, "light": 4, "heuristic": 4, "perturbed": 0, "logged": 0, "random": 0, "thin": 0,
    },
    "reward": {"observed": 0.0, "members": 1, "pessimism": 0.0},
}  # fmt: skip
# What the rows of the method's own kind are, in a line for tables.
METHOD_ROWS = {
    "goalrank": (
        "our recipe on top of the paper's method: slot groups in part of the steps, perturbed, logged "
        "and random lists in the groups, a start from the linear model, and, as its settings or tuning "
        "say, a supervised term, observed feedback, an ensemble of rewards and another temperature"
    ),
    "goalrank_eq5": (
        "eq. 5 alone, in our recipe's groups and temperature: no supervised term, no slot groups, no "
        "observed feedback; not the paper's method, which is goalrank_paper"
    ),
    "goalrank_paper": (
        "the paper's method: own and auxiliary lists, sample deviation, temperature 1, one reward "
        "model, nothing else; encoder and features are those of all rows"
    ),
}


def standard_rows() -> dict[str, dict[str, Any]]:
    """Make the rows that a suite can name by a word; "@all" names all of them.

    Rankers of plug-ins are not among them, so that "@all" means the same everywhere; a suite names
    them one by one.
    """
    rows: dict[str, dict[str, Any]] = {
        name: {"name": name} for name in RANKERS.builtin_names if name != "goalrank"
    }
    rows["best_of_100"] = {"name": "best_of", "options": {"base": "prm", "lists": 100}}
    for k in (3, 20, 100):
        rows[f"mg_e_{k}"] = {"name": "mg_e", "options": {"k": k}}
        rows[f"mg_e_copies_{k}"] = {"name": "mg_e_copies", "options": {"k": k}}
    rows["clig_20"] = {"name": "clig", "options": {"k": 20, "pool": 100}}
    rows["evaluator_sort"] = {"name": "evaluator_sort"}
    for base in ("dnn", "prm"):
        rows[f"{base}_ensemble_3"] = {"name": "ensemble", "options": {"base": base, "members": 3}}
    rows["prm_pretrained"] = {"name": "prm", "set": {"pretrain": _PRETRAINING}}
    rows["trees_over_prm"] = {"name": "trees_over", "options": {"base": "prm", "folds": 3}}
    rows["mmr_prm"] = {"name": "mmr_learned"}
    rows["dpp_prm"] = {"name": "dpp_learned"}
    rows["goalrank"] = {"name": "goalrank"}
    alone = {"objective": {"supervised": 0.0, "slot_group_share": 0.0}, "reward": {"observed": 0.0}}
    rows["goalrank_eq5"] = {"name": "goalrank", "set": alone}
    rows["goalrank_paper"] = {"name": "goalrank", "set": PAPER}
    rows["baselines"] = {"name": "baselines"}
    return {label: {**row, "label": label} for label, row in rows.items()}


def expand_rows(given: Sequence[Any]) -> list[Any]:
    """Replace the words of a suite by standard rows.

    Args:
        given: "@all" (all standard rows), words (one row each: a standard row, a ranker
            of a plug-in, or a class path), "-word" (removes a row), and rows
            as tables. A later row replaces an earlier one with the same label.

    Raises:
        ConfigError: an unknown word; the message names the nearest one.
    """
    standard = standard_rows()
    out: dict[str, Any] = {}
    for i, row in enumerate(given):
        if row == "@all":
            out.update(standard)
        elif isinstance(row, str):
            name = _current(row.removeprefix("-"))
            if (fault := RANKERS.fault(name, also=("@all", *standard))) is not None:
                raise ConfigError(f"{fault}; option: rankers")
            out[name] = standard.get(name, {"name": name})
            if row.startswith("-"):
                del out[name]
        else:
            key = row.get("label") or row.get("name") if isinstance(row, dict) else None
            out[str(key or i)] = row
    return list(out.values())


def _expanded(value: Any) -> Any:
    return expand_rows(value) if isinstance(value, list | tuple) else value


# The rows of a suite, as tables or words; at least one.
Rows = Annotated[tuple[RowSpec, ...], BeforeValidator(_expanded), Field(min_length=1)]
