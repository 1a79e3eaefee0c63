"""Reference pages repeat declarations of the code; `python -m tests.docs.test_reference` writes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from goalrank.api import RetrainSettings
from goalrank.evaluation import METRICS, OffPolicyOptions
from goalrank.features import DEFAULT_FAMILIES, FEATURES, FeatureInputs, ItemCategories
from goalrank.logs import ImportOptions
from goalrank.requests import SCHEMA
from goalrank.serving import ServeSettings
from goalrank.training import FitConfig
from tests.docs.command_page import command_line
from tests.docs.markdown import table
from tests.docs.settings_pages import import_settings, rows, sections, training_settings

# Options that are given once for each value have the name of one.
_REPEATED = {
    "estimators": "estimator", "allow_plugins": "allow_plugin", "allowed_hosts": "allowed_host",
}  # fmt: skip
FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def requests_table() -> str:
    rows = [
        (
            f"`{column.name}`",
            column.expected,
            "required" if column.is_required else "empty" if column.is_filled else "optional",
            f"`{column.along}`" if column.along else "",
            column.meaning,
        )
        for column in SCHEMA
    ]
    return (
        "# The requests table\n\n"
        "One row per request, in Parquet: a file, or a folder of shards. Log import writes it, "
        "training and evaluation read it, the server appends to it. The columns are declared in "
        "`goalrank.requests.SCHEMA`; other names are refused.\n\n"
        "*Absent*: what happens where a table has no such column: **required** tables are refused, "
        "**empty** columns are filled with empty lists, **optional** ones stay away. *Along*: the "
        "list that this one lines up with, entry by entry.\n\n"
        + table(("column", "type", "absent", "along", "meaning"), rows)
    )


def fields(model: type[BaseModel], prefix: str = "") -> Iterable[tuple[object, ...]]:
    """Name, description, default and option of each field; what is looked for first stands first."""
    for name, field in model.model_fields.items():
        option = f"--{_REPEATED.get(name, name).replace('_', '-')}"
        default = "must be given" if field.is_required() else f"`{field.default}`"
        default = "" if field.default in (None, ()) else default
        variable = (f"`{prefix}{name.upper()}`",) if prefix else ()
        yield (f"`{name}`", field.description, default, f"`{option}`", *variable)


def serve_settings() -> str:
    return (
        "# Settings of a server\n\n"
        "Declared in `goalrank.serving.ServeSettings`. A setting is taken from the first of: the "
        "option of `goalrank serve`, the environment variable, the TOML file that `--settings` "
        "names (keys are the names of the first column; paths are read from the file's folder; "
        "`extends` lays the file over another), the default. `GOALRANK_STORE` and `GOALRANK_RATE` "
        "of earlier versions are still read. API keys come from `GOALRANK_API_KEYS` alone.\n\n"
        + table(
            ("setting", "meaning", "default", "option", "environment"),
            fields(ServeSettings, "GOALRANK_SERVE_"),
        )
    )


def off_policy_options() -> str:
    return (
        "# Options of an off-policy estimate\n\n"
        "Declared in `goalrank.evaluation.OffPolicyOptions`: keywords of `evaluate_off_policy` and "
        "options of `goalrank ope`. The method is explained in [experiments](../experiments.md).\n\n"
        + table(("keyword", "meaning", "default", "option"), fields(OffPolicyOptions))
    )


def features() -> str:
    """Every family with a feedback type and a column of categories as examples."""
    categories = {"genre": ItemCategories.from_pairs(np.array([0]), np.array([0]))}
    inputs = FeatureInputs(("click",), categories)
    rows = (
        (f"`{name}`", f"`{feature.name}`", feature.unit, feature.meaning, feature.memory)
        for name in DEFAULT_FAMILIES
        for feature in FEATURES.builtin(name)(inputs).features
    )
    return (
        "# Features\n\n"
        "Numbers of candidates that an import computes from events, and that a server computes from "
        "the events it gets by the same code. The families are declared in `goalrank.features`; "
        "`features` of an import chooses some (`--set features=popularity,rates`), the default is "
        "all. Only rows strictly before a request count: shown exposures of an exposure log, all "
        "rows of any other.\n\n"
        "The names below are those of a log with the feedback type `click` and the column `genre` "
        "in the items' side table; there is one of each per feedback type in [0, 1] and per column "
        "of categories. *Memory* is what a server keeps.\n\n"
        + table(("family", "feature", "unit", "meaning", "memory"), rows)
        + "\nLinked features come from models of the consumed items instead, refitted as the log "
        "grows: `transition_last` and `transition_recent` (item-to-item links from the latest "
        "history item, or the recent ones), `COLUMN_affinity` (shares of the categories in the "
        "history), and score and reciprocal rank of each retrieval channel. Families of your own: "
        "[extending](../extending.md).\n"
    )


def settings_rows(model: type[BaseModel], prefix: str = "") -> Iterable[tuple[object, ...]]:
    """Dotted name, default and description of each setting, sections opened."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from settings_rows(type(field.default), f"{prefix}{name}.")
            continue
        default = "" if field.default in (None, (), PydanticUndefined) else f"`{field.default}`"
        yield f"`{prefix}{name}`", default, field.description


def retrain_settings() -> str:
    return (
        "# Settings of a retraining\n\n"
        "Declared in `goalrank.api.RetrainSettings`. `goalrank retrain --settings FILE` reads them "
        "from TOML (`[gate]` and so on are its tables; `extends` lays the file over another), and "
        "`--set gate.margin=0.02` sets one of them. What they mean together is in "
        "[retraining](../retraining.md).\n\n"
        + table(("setting", "default", "meaning"), settings_rows(RetrainSettings))
    )


def metrics() -> str:
    """Each metric's own docstring."""
    parts = (f"## {name}\n\n{inspect.getdoc(METRICS[name])}\n" for name in METRICS.builtin_names)
    return (
        "# Metrics\n\n"
        "Every metric is of one list per request; `ndcg@6` is `ndcg` of the first 6 slots. A "
        "*positive* is a candidate with relevance above 0. Requests without positives are left out "
        "and counted. Tied candidates get the expected value over their orders. In the formulas, "
        "L is the number of slots, y_t is 1 where slot t holds a positive, and [B] means one value "
        "for each of B requests. A report gives the mean over requests, with a bootstrap interval "
        "over users. Metrics of your own: [extending](../extending.md).\n\n" + "\n".join(parts)
    )


PAGES = {
    "cli.md": command_line,
    "import-settings.md": import_settings,
    "training-settings.md": training_settings,
    "metrics.md": metrics,
    "features.md": features,
    "retrain-settings.md": retrain_settings,
    "requests-table.md": requests_table,
    "serve-settings.md": serve_settings,
    "off-policy-options.md": off_policy_options,
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_says_what_the_code_says(name):
    assert (FOLDER / name).read_text("utf-8") == PAGES[name](), (
        "remedy: python -m tests.docs.test_reference"
    )


@pytest.mark.parametrize(
    ("section", "model"), [*sections(FitConfig), ("import", ImportOptions)], ids=str
)
def test_every_setting_is_described(section, model):
    assert [row[0] for row in rows(model) if not row[-1]] == []


def test_choices_are_named_in_their_descriptions():
    for model in (ServeSettings, OffPolicyOptions):
        for name, field in model.model_fields.items():
            for choice in get_args(field.annotation):
                if isinstance(choice, str):
                    assert choice in (field.description or ""), name


if __name__ == "__main__":
    for page, make in PAGES.items():
        (FOLDER / page).write_text(make(), "utf-8")
