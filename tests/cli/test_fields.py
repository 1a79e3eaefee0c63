"""Options made from a settings class: each field is an option, and only what is given is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

import goalrank.evaluation.off_policy.off_policy as off_policy
from goalrank.cli.application import app as goalrank_app
from goalrank.cli.fields import options_of
from goalrank.errors import ConfigError
from goalrank.evaluation import OffPolicyOptions


class Sample(BaseModel):
    place: Path | None = Field(default=None, description="Where.")
    many: tuple[str, ...] | None = Field(default=None, description="Repeatable.")
    most: int = Field(default=7, ge=1, le=9, description="At most.")
    share: float = Field(default=0.5, gt=0, description="A share.")
    kind: Literal["a", "b"] = Field(default="a", description="a or b.")
    loud: bool = Field(default=False, description="Say more.")


@pytest.fixture
def asked():
    app, seen = typer.Typer(), []

    @app.command()
    @options_of(Sample, names={"many": "one"})
    def verb(
        given: dict[str, Any],
        own: Annotated[str, typer.Option(help="Its own.")],
        as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
    ) -> None:
        """Do it."""
        seen.append((given, own, as_json))

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        return (result, seen.pop() if seen else None)

    return run


def test_only_what_is_given_is_told(asked):
    assert asked("--own", "x")[1] == ({}, "x", False)


def test_every_type_arrives(asked):
    _, told = asked(
        "--place", "p", "--one", "1", "--one", "2", "--most", "3", "--share", "0.25", "--kind",
        "b", "--loud", "--own", "x", "--json",
    )  # fmt: skip
    assert told == (
        {"place": Path("p"), "many": ["1", "2"], "most": 3, "share": 0.25, "kind": "b",
         "loud": True},
        "x", True,
    )  # fmt: skip


def test_limits_choices_and_required_options_are_checked(asked):
    for arguments in (["--most", "10"], ["--kind", "c"], ["--loud", "yes"]):
        result, told = asked("--own", "x", *arguments)
        assert (result.exit_code, told) == (2, None)
    assert asked()[0].exit_code == 2


def test_help_names_defaults_and_descriptions(asked):
    text = asked("--help")[0].output
    for each in ("--place", "--one", "At most.", "1<=x<=9", "7", "0.5", "a|b", "Say more."):
        assert each in text
    assert "--many" not in text


def test_the_options_of_ope_are_the_fields_of_the_estimate(monkeypatch):
    text = CliRunner().invoke(goalrank_app, ["ope", "--help"], env={"COLUMNS": "250"}).output
    for name, field in OffPolicyOptions.model_fields.items():
        option = "estimator" if name == "estimators" else name.replace("_", "-")
        assert f"--{option} " in text
        assert field.description is not None
        assert field.description.split(".")[0][:30] in " ".join(text.split())


def test_keywords_are_laid_over_the_options_object():
    options = OffPolicyOptions(temperature=2.0, seed=3)
    merged = off_policy._options(options, {"seed": 4, "device": "cpu"})
    assert (merged.temperature, merged.seed) == (2.0, 4)
    with pytest.raises(ConfigError, match=r"sed = 4: no such setting; did you mean 'seed'"):
        off_policy._options(None, {"sed": 4})
    with pytest.raises(ConfigError, match=r"unit = 'usr'.*did you mean 'user'"):
        off_policy._options(None, {"unit": "usr"})
