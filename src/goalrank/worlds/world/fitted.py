"""Worlds fitted to a real log: its users, its items, their factors and popularity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from goalrank.errors import ConfigError, DataError
from goalrank.requests import Requests
from goalrank.storage import whole_file, write_text
from goalrank.worlds.world.config import FactorsConfig, WorldConfig
from goalrank.worlds.world.latents import Latents, from_factors

_FILE = "factors.safetensors"
_PARTS = ("items", "popularity", "users")
_PAIRS_COMPARED = 100_000  # most pairs that `preferred` is measured on


@dataclass(frozen=True)
class FittedWorld:
    """Result of `fit_world`.

    Attributes:
        path: the world's TOML file.
        users, items: numbers of users and items.
        pairs: pairs of a user and a consumed item that the factors were fitted to.
        preferred: share of those pairs whose consumed item scores higher for the user than an item
            drawn at random; in sample.
    """

    path: Path
    users: int
    items: int
    pairs: int
    preferred: float


def fit_world(
    tables: Sequence[Requests],
    like: WorldConfig,
    out: str | Path,
    *,
    name: str | None = None,
    width: int = 16,
    iterations: int = 15,
    seed: int = 0,
) -> FittedWorld:
    """Fit factors to a log and write a world with them: `world.toml` and a file of factors.

    Users respond to lists as in the world `like`. User vectors, item vectors and popularity come
    from the log. Ids are not kept: users and items are numbered in the order of their ids.

    Args:
        tables: tables of one dataset, such as its train, validation and test.
        like: settings of a world; its sizes, seed and name are replaced.
        out: folder to write to; it must not contain a world.
        name: name of the world; None is the name of the folder.
        width: D of the factors, at least 2.
        iterations: rounds of alternating least squares, at least 1.
        seed: seed of the fit and of what a log does not contain (qualities, rotations, phases).

    Raises:
        DataError: nothing was consumed, or the folder contains a world.
        ConfigError: the log has fewer items than `like` asks for; width or iterations too small.
        MissingExtraError: ``implicit`` is not installed.
    """
    from goalrank.logs import fit_factors  # reading a world needs no log reader

    folder = Path(out)
    path = folder / "world.toml"
    if path.exists():
        raise DataError(f"'{path}' exists; remedy: another folder (option: --out)")
    if iterations < 1:
        raise ConfigError(f"iterations={iterations} must be at least 1 (option: --iterations)")
    pairs = _consumed(tables)
    user = (pairs["user_id"].rank("dense").cast(pl.Int64) - 1).to_numpy()
    item = (pairs["item_id"].rank("dense").cast(pl.Int64) - 1).to_numpy()
    popularity = torch.from_numpy(np.bincount(item)).to(torch.float64)
    sizes = {"users": int(user.max()) + 1, "items": len(popularity), "dim": width, "seed": seed}
    given = like.model_dump() | sizes | {"name": name or folder.name, "factors": None}
    config = WorldConfig(**given)  # check the settings before the fit
    users, items = fit_factors(user, item, width=width, iterations=iterations, seed=seed)
    parts = {
        "users": torch.from_numpy(users.copy()),
        "items": torch.from_numpy(items.copy()),
        "popularity": popularity,
    }
    content = save(parts)
    factors = {"file": _FILE, "sha256": hashlib.sha256(content).hexdigest()}
    with whole_file(folder / _FILE) as temporary:
        temporary.write_bytes(content)
    write_text(path, _toml(config.model_dump(mode="json", exclude_defaults=True), factors))
    preferred = _preferred(parts["users"], parts["items"], user, item, seed)
    return FittedWorld(path, sizes["users"], sizes["items"], len(pairs), preferred)


def fitted_latents(config: WorldConfig, factors: FactorsConfig) -> Latents:
    """Read the hidden state of a world with fitted factors.

    Args:
        config: settings of the world.
        factors: the file of factors and its digest.

    Raises:
        DataError: the file is missing or damaged, or is not the one of this world.
    """
    remedy = "remedy: put the file that was written with the world's TOML there, or fit it again"
    try:
        content = factors.file.read_bytes()
    except OSError as error:
        raise DataError(
            f"factors '{factors.file}' of world '{config.name}' cannot be read "
            f"({error.strerror}); {remedy} (setting: factors.file)"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != factors.sha256:
        raise DataError(
            f"factors '{factors.file}' have sha256 {found}, but world '{config.name}' was fitted "
            f"with {factors.sha256}; {remedy} (setting: factors.sha256)"
        )
    try:
        parts = load(content)
    except SafetensorError as error:
        raise DataError(
            f"factors '{factors.file}' are no safetensors ({error}); {remedy}"
        ) from error
    if sorted(parts) != sorted(_PARTS):
        raise DataError(
            f"factors '{factors.file}' hold {sorted(parts)}, expected {sorted(_PARTS)}; {remedy}"
        )
    return from_factors(parts["users"], parts["items"], config, parts["popularity"])


def _consumed(tables: Sequence[Requests]) -> pl.DataFrame:
    """Distinct pairs of a user and an item, of its history or shown to it, with feedback above 0."""
    parts = []
    for table in tables:
        seen = table.frame.select("user_id", item_id="history", value="history_feedback")
        if seen["value"].list.len().sum():
            parts.append(_liked(seen))
        else:  # the history has no feedback values; all of it was consumed
            parts.append(seen.select("user_id", "item_id").explode("item_id").drop_nulls())
        if table.info.target is not None:
            shown = table.frame.select("user_id", item_id="candidates")
            parts.append(_liked(shown.with_columns(value=table.relevance())))
    pairs = pl.concat(parts).unique() if parts else pl.DataFrame()
    if pairs.is_empty():
        raise DataError(
            "no user has a history or feedback above 0 in these requests, so there are no preferences "
            "to fit; remedy: a table with histories or with feedback of its target"
        )
    return pairs.sort("user_id", "item_id")


def _liked(pairs: pl.DataFrame) -> pl.DataFrame:
    return (
        pairs.explode("item_id", "value").filter(pl.col("value") > 0).select("user_id", "item_id")
    )


def _preferred(users: Tensor, items: Tensor, user: Any, item: Any, seed: int) -> float:
    rng = np.random.default_rng(seed)
    at = rng.permutation(len(user))[:_PAIRS_COMPARED]
    other = rng.integers(len(items), size=len(at))
    taste = users[user[at]]
    own, random = (taste * items[item[at]]).sum(1), (taste * items[other]).sum(1)
    return float((own > random).double().mean())


def _toml(values: Mapping[str, Any], factors: Mapping[str, str]) -> str:
    """Settings as TOML: plain values first, then tables, then lists of tables.

    JSON writes strings, numbers and booleans as TOML does.
    """
    plain, tables = [], []
    for name, value in {**values, "factors": factors}.items():
        if isinstance(value, Mapping):
            tables.append(_table(f"[{name}]", value))
        elif isinstance(value, list | tuple):
            tables += [_table(f"[[{name}]]", each) for each in value]
        else:
            plain.append(f"{name} = {json.dumps(value)}")
    return "\n".join([*plain, *tables]) + "\n"


def _table(head: str, values: Mapping[str, Any]) -> str:
    return "\n".join(["", head, *[f"{name} = {json.dumps(v)}" for name, v in values.items()]])
