"""`ServeSettings`: the settings of a server, declared once for Python, command line and environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from goalrank.models import CHAMPION
from goalrank.settings import read_toml
from goalrank.storage import address_of, local_path

DEFAULT_STORE = "sqlite:///goalrank.db"
MAX_BODY = 4 << 20  # bytes
ENVIRONMENT = "GOALRANK_SERVE_"
# Names of earlier versions, still read where the new one is not set.
_EARLIER = {"store": "GOALRANK_STORE", "rate": "GOALRANK_RATE"}


class ServeSettings(BaseSettings):
    """What a server is told.

    A setting is taken from the first of: the keyword argument (an option of `goalrank serve`), the
    environment variable `GOALRANK_SERVE_` + its name, the TOML file that `settings` names, the
    default. Paths in that file are read from its own folder. API keys come from GOALRANK_API_KEYS
    alone, never from here.

    Raises:
        pydantic.ValidationError: a value of a wrong type or out of range, or an unknown name.
        ConfigError: the TOML file cannot be read.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT, env_ignore_empty=True, extra="forbid", frozen=True
    )

    bundle: Path = Field(
        description="The bundle's folder; a new bundle put there takes over without a restart."
    )
    models: Path | None = Field(
        default=None,
        description="Instead of --bundle: the folder of a model registry, whose champion is served "
        "and followed.",
    )
    allow_plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Package beside goalrank whose ranker or reward a bundle may load. Repeatable; "
        "also GOALRANK_ALLOW_PLUGINS=PACKAGE,…",
    )
    settings: Path | None = Field(
        default=None, description="TOML file of these settings; options and environment win."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port.")
    insecure: bool = Field(
        default=False,
        description="Listen beyond this machine without API keys: anyone who reaches it may ask.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host that requests may name, *.DOMAIN for all below it. Repeatable; default: "
        "this machine's names where it listens on those alone, else any.",
    )
    workers: int = Field(default=1, ge=1, description="Processes that share the port.")
    store: str | None = Field(
        default=DEFAULT_STORE,
        description="Where exposures go: sqlite:///FILE, postgresql+psycopg://…, or none.",
    )
    state: Path | None = Field(
        default=None,
        description="Folder for snapshots of state; it turns on /v1/events, and requests get history "
        "and features from the events so far.",
    )
    experiments: Path | None = Field(default=None, description="TOML file of experiments.")
    rules: Path | None = Field(default=None, description="TOML file of rules for every list.")
    items: Path | None = Field(
        default=None,
        description="items.parquet, for rules and the features of items, new and known.",
    )
    users: Path | None = Field(
        default=None, description="users.parquet, for the features of users, new and known."
    )
    examples: Path | None = Field(
        default=None, description="Requests that the page offers; default: the bundle's."
    )
    missing: Literal["refuse", "mean"] = Field(
        default="refuse",
        description="Where a request lacks an input of training: refuse, or take the training mean.",
    )
    temperature: float | None = Field(
        default=None, gt=0,
        description="Exploration: draw each list by the model's probabilities, at this temperature; "
        "1 is the model's own, less is nearer to the best list. Default: serve the best list.",
    )  # fmt: skip
    seed: int = Field(default=0, description="Seed of the drawn lists.")
    backend: Literal["torch", "onnx", "auto"] = Field(
        default="auto",
        description="torch, onnx (exports the decode once and keeps it), or auto: onnx where kept.",
    )
    threads: int = Field(default=1, ge=1, description="Threads of the model in each process.")
    deadline: float = Field(
        default=0.5, gt=0, description="Seconds until the retriever's order is given instead."
    )
    store_timeout: float = Field(
        default=10.0, gt=0, description="Seconds until a store that does not confirm has failed."
    )
    on_store_failure: Literal["fail", "serve-unlogged"] = Field(
        default="fail", description="What happens where the store refuses: fail or serve-unlogged."
    )
    rate: float | None = Field(
        default=None, gt=0, description="Requests per second for each API key, in all workers."
    )
    max_body: int = Field(default=MAX_BODY, ge=1024, description="Largest body, in bytes.")
    keep_alive: float = Field(
        default=75.0, gt=0,
        description="Seconds that an idle connection stays open; longer than a load balancer in "
        "front keeps it.",
    )  # fmt: skip
    watch: float = Field(
        default=1.0, gt=0, description="Seconds between looks for a changed bundle."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines of the log: text or json."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe lines that are logged: debug, info, warning or error.",
    )
    no_access_log: bool = Field(default=False, description="Log no line for an answered request.")
    trace: bool = Field(
        default=False, description="Send OpenTelemetry traces (OTEL_EXPORTER_OTLP_…)."
    )

    @model_validator(mode="before")
    @classmethod
    def _champion(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The bundle of a model registry is what its champion's link leads to."""
        rest = {name: value for name, value in values.items() if name != "models"}
        if not values.get("models"):
            return rest
        if rest.get("bundle"):
            raise ValueError("bundle and models both say what to serve; give one of them")
        return {**rest, "bundle": local_path(values["models"], "models") / CHAMPION}

    @field_validator("allow_plugins", "allowed_hosts", mode="before")
    @classmethod
    def _packages(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(filter(None, (each.strip() for each in value.split(","))))

    @field_validator(
        "bundle", "models", "settings", "state", "experiments", "rules", "items", "users",
        "examples",
    )  # fmt: skip
    @classmethod
    def _of_this_machine(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return None if value is None else local_path(value, info.field_name or "")

    @field_validator("store", mode="before")
    @classmethod
    def _no_store(cls, value: object) -> object:
        return None if value == "none" else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keywords, then the environment, then its earlier names, then the file."""
        earlier = {name: os.environ[old] for name, old in _EARLIER.items() if os.environ.get(old)}
        old_names = InitSettingsSource(settings_cls, init_kwargs=earlier)
        return init_settings, env_settings, old_names, _SettingsFile(settings_cls)


class _SettingsFile(PydanticBaseSettingsSource):
    """The TOML file that the setting `settings` of an earlier source names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not asked for: the file is read as a whole."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        given = self.current_state.get("settings")
        if not given:
            return {}
        file = local_path(given, "settings")
        values = read_toml(file, "settings file", "give another path; option: settings")
        for name, field in self.settings_cls.model_fields.items():
            is_path = Path in (field.annotation, *get_args(field.annotation))
            if is_path and isinstance(values.get(name), str) and not address_of(values[name]):
                values[name] = file.parent / values[name]
        return values
