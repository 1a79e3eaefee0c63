"""Rows of a suite: rankers by name, and rankers made of several others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from goalrank.errors import ConfigError
from goalrank.rankers import ranker_names, ranker_options
from goalrank.settings import did_you_mean, warn_renamed
from goalrank.training import PartialRecipe

COMPOSITES = ("best_of", "mg_e", "mg_e_copies", "clig", "evaluator_sort", "baselines")
_RENAMED = {"rules": "baselines"}  # old name of a row → new name
_OWN = {
    "best_of": ("base", "lists", "temperature"),
    "mg_e": ("k",),
    "clig": ("k", "pool", "weight"),
}
_OWN["mg_e_copies"] = ("k", "base", "width", "layers", "steps")
_SECTIONS = (
    "ranker",
    "training",
    "light",
    "light_loop",
    "reward",
    "group",
    "objective",
    "pretrain",
)
_TAUGHT = ("goalrank", "egrank", "nlgr")
_TASKS = {"egrank": ("lists", "clip", "refresh"), "nlgr": ("lists", "others")}

Objective = Literal[
    "own", "group_relative", "group_softmax", "group_ranks", "reinforce", "preference", "supervised"
]


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
        name: a ranker's name, or best_of, mg_e, mg_e_copies, clig, evaluator_sort, baselines
            (every ranker without learning that the data allow).
        label: printed in tables, unique in the suite; by default the name.
        objective: "own" is the ranker's own training (GoalRank on groups, EGRank by PPO, NLGR by
            neighbours, others by their supervised loss); any objective of
            `goalrank.training.OBJECTIVES` trains any ranker with the shared reward.
        options: options of the ranker, or of the composite (k, base, lists, …).
        task: settings of PPO or of the neighbours.
        set: overrides of the recipe for this row only, such as {group = {own = 20}}.
        bias: of the reward, see `BiasSpec`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label: str = ""
    objective: Objective = "own"
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    task: dict[str, int | float] = Field(default_factory=dict)
    set: PartialRecipe = Field(default_factory=dict)
    bias: BiasSpec = BiasSpec()

    @property
    def labels_only(self) -> bool:
        """Whether the row is trained by its supervised loss and uses no reward."""
        if self.objective == "own":
            return self.name not in (*_TAUGHT, *COMPOSITES)
        return self.objective == "supervised"

    @property
    def rewarded(self) -> bool:
        """Whether the row is trained by the shared reward or chooses by it."""
        return not self.labels_only and self.name != "baselines"

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
        names = [*ranker_names(), *COMPOSITES]
        if self.name not in names:
            raise ConfigError(_unknown("ranker", self.name, names, "rankers.name"))
        composite = self.name in COMPOSITES
        own = _OWN.get(self.name, ()) if composite else ranker_options(self.name)
        for option in self.options:
            if option not in own:
                where = f"option of ranker '{self.name}'"
                raise ConfigError(_unknown(where, option, own, "rankers.options"))
        for option in self.task:
            if option not in _TASKS.get(self.name, ()):
                raise ConfigError(
                    _unknown(
                        f"task setting of '{self.name}'",
                        option,
                        _TASKS.get(self.name, ()),
                        "rankers.task",
                    )
                )
        for section in self.set:
            if section not in _SECTIONS:
                raise ConfigError(
                    _unknown(f"section of row '{self.label}'", section, _SECTIONS, "rankers.set")
                )
        base = str(self.options.get("base", "prm"))
        if composite and base not in ranker_names():
            raise ConfigError(_unknown("base ranker", base, ranker_names(), "rankers.options.base"))
        if composite and self.objective != "own":
            raise ConfigError(
                f"row '{self.label}': '{self.name}' is made of trained rankers and has no objective "
                f"of its own; remedy: leave objective out (option: rankers.objective)"
            )
        return self


def rename_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give rows that an earlier goalrank stored the names of today."""
    return [{**row, "name": _RENAMED.get(row["name"], row["name"])} for row in rows]


def _current(name: Any) -> Any:
    """A row's name of today; warns where an old one was given."""
    if not isinstance(name, str) or name not in _RENAMED:
        return name
    warn_renamed(name, _RENAMED[name], "rankers")
    return _RENAMED[name]


def _unknown(what: str, name: str, known: Any, option: str) -> str:
    hint, names = did_you_mean(name, known), ", ".join(known) or "none"
    return f"{what} '{name}' is unknown{hint} Known: {names}; option: {option}"


def standard_rows() -> dict[str, dict[str, Any]]:
    """Make the rows that a suite can name by a word; "@all" names all of them."""
    rows: dict[str, dict[str, Any]] = {
        name: {"name": name} for name in ranker_names() if name != "goalrank"
    }
    rows["best_of_100"] = {"name": "best_of", "options": {"base": "prm", "lists": 100}}
    for k in (3, 20, 100):
        rows[f"mg_e_{k}"] = {"name": "mg_e", "options": {"k": k}}
        rows[f"mg_e_copies_{k}"] = {"name": "mg_e_copies", "options": {"k": k}}
    rows["clig_20"] = {"name": "clig", "options": {"k": 20, "pool": 100}}
    rows["evaluator_sort"] = {"name": "evaluator_sort"}
    rows["goalrank"] = {"name": "goalrank"}
    alone = {"objective": {"supervised": 0.0, "slot_group_share": 0.0}, "reward": {"observed": 0.0}}
    rows["goalrank_eq5"] = {"name": "goalrank", "set": alone}
    rows["baselines"] = {"name": "baselines"}
    return {label: {**row, "label": label} for label, row in rows.items()}


def expand_rows(given: Sequence[Any]) -> list[Any]:
    """Replace the words of a suite by standard rows.

    Args:
        given: "@all" (all standard rows), words (one row each), "-word" (removes a row), and rows
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
            if name not in standard:
                raise ConfigError(_unknown("ranker", name, ["@all", *standard], "rankers"))
            out[name] = standard[name]
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
