"""An `Encoder` on disk: ids as Parquet, tables as safetensors, the rest as JSON. No pickle."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from goalrank.errors import BundleError, ConfigError
from goalrank.requests.encoding.batch import EntityTable
from goalrank.requests.encoding.encoder import Encoder, EncoderConfig
from goalrank.requests.encoding.entities import EntityEncoder
from goalrank.requests.encoding.features import FeatureEncoder
from goalrank.requests.encoding.missing import Range
from goalrank.requests.encoding.vocabulary import Vocabulary
from goalrank.requests.table.info import TableInfo

_SIDES = ("items", "users")
_HISTORY = ("history_feedback", "history_age")  # unknown to bundles of earlier versions
_JSON, _TABLES = "encoder.json", "encoder.safetensors"


def save_encoder(encoder: Encoder, folder: str | Path) -> list[str]:
    """Write an encoder's files into an existing folder; returns their names.

    Not atomic: a bundle's writer gives a temporary folder.
    """
    target = Path(folder)
    names = [_JSON, _TABLES]
    state: dict[str, Any] = {
        "config": encoder.config.model_dump(mode="json"),
        "info": encoder.info.model_dump(mode="json"),
        "score": encoder.score,
        "candidate": encoder.candidate.tolist(),
        "gaps": list(encoder.gaps),
        "knows_vectors": encoder.knows_vectors,
        **{name: getattr(encoder, name) for name in _HISTORY},
    }
    tensors = {}
    for side in _SIDES:
        entity: EntityEncoder = getattr(encoder, side)
        ids, values = f"{side}.ids.parquet", f"{side}.categories.parquet"
        entity.vocabulary.ids.to_frame().write_parquet(target / ids)
        _categories(entity.features).write_parquet(target / values)
        names += [ids, values]
        state[side] = {"buckets": entity.vocabulary.buckets, **_features(entity.features)}
        for f in fields(EntityTable):
            tensors[f"{side}.{f.name}"] = getattr(entity.table, f.name).contiguous()
    save_file(tensors, target / _TABLES)
    (target / _JSON).write_text(json.dumps(state, indent=1), encoding="utf-8")
    return names


def load_encoder(folder: str | Path) -> Encoder:
    """Read what `save_encoder` wrote: the same encoder, bit for bit.

    Raises:
        BundleError: a file is missing or damaged.
    """
    source = Path(folder)
    try:
        state = json.loads((source / _JSON).read_text(encoding="utf-8"))
        tensors = load_file(source / _TABLES)
        sides = {side: _entity(source, side, state[side], tensors) for side in _SIDES}
        encoder = Encoder(
            config=EncoderConfig(**state["config"]),
            info=TableInfo(**state["info"]),
            items=sides["items"],
            users=sides["users"],
            score=_range(state["score"]),
            candidate=np.array(state["candidate"], np.float64).reshape(-1, 2),
            gaps=tuple(state.get("gaps", ())),
            knows_vectors=bool(state.get("knows_vectors", False)),
        )
        if _HISTORY[0] not in state:
            return encoder
        feedback, age = (_range(state[name]) for name in _HISTORY)
        return replace(encoder, history_feedback=feedback, history_age=age)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        ConfigError,
        ValidationError,
        pl.exceptions.PolarsError,
    ) as error:
        raise BundleError(
            f"the encoder in '{source}' cannot be read ({_first_line(error)}); remedy: save the "
            f"bundle again or fetch it anew"
        ) from error
    except Exception as error:  # safetensors raises its own class
        if type(error).__module__.startswith("safetensors"):
            raise BundleError(
                f"'{source / _TABLES}' is damaged ({error}); remedy: save the bundle again"
            ) from error
        raise


def _range(value: list[float] | None) -> Range | None:
    return None if value is None else (float(value[0]), float(value[1]))


def _features(encoder: FeatureEncoder) -> dict[str, Any]:
    """Ranges and sizes; the order of the keys is the order of the encoded columns."""
    return {
        "numeric": encoder.numeric,
        "vector": encoder.vector,
        "categorical": {name: v.buckets for name, v in encoder.categorical.items()},
        "multi": encoder.multi,
    }


def _categories(encoder: FeatureEncoder) -> pl.DataFrame:
    """Values of the categorical columns one below another: feature, value."""
    parts = [
        pl.DataFrame({"feature": [name] * v.size, "value": v.ids})
        for name, v in encoder.categorical.items()
    ]
    empty = pl.DataFrame(schema={"feature": pl.String, "value": pl.String})
    return pl.concat([empty, *parts])


def _entity(
    source: Path, side: str, state: dict[str, Any], tensors: dict[str, Any]
) -> EntityEncoder:
    values = pl.read_parquet(source / f"{side}.categories.parquet", glob=False)
    features = FeatureEncoder(
        numeric={
            name: (bool(log), float(mean), float(std))
            for name, (log, mean, std) in state["numeric"].items()
        },
        categorical={
            name: Vocabulary(values.filter(pl.col("feature") == name)["value"], buckets)
            for name, buckets in state["categorical"].items()
        },
        multi=dict(state["multi"]),
        vector={name: (int(n), float(rms)) for name, (n, rms) in state["vector"].items()},
    )
    ids = pl.read_parquet(source / f"{side}.ids.parquet", glob=False)["id"]
    table = EntityTable(*(tensors[f"{side}.{f.name}"] for f in fields(EntityTable)))
    return EntityEncoder(Vocabulary(ids, int(state["buckets"])), features, table)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
