"""Versions of a model registry for the page: which one serves, and what the gate said of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goalrank.errors import ConfigError
from goalrank.models import CHAMPION, DataRange, ModelRegistry, Version
from goalrank.serving.ranking.served_bundles import DEFAULT
from goalrank.serving.ranking.service import Service

__all__ = ["model_versions", "registry_of"]

_MOST = 20  # versions and moves that are shown


def registry_of(bundle: Path) -> Path | None:
    """The folder of the model registry whose champion a server follows; None for a plain bundle.

    Args:
        bundle: that the server was given.
    """
    followed = bundle.name == CHAMPION and (bundle.parent / "versions").is_dir()
    return bundle.parent if followed else None


def model_versions(service: Service, folder: Path | None) -> dict[str, Any]:
    """The newest versions and moves, newest first, as JSON values.

    Args:
        service: that serves one of them.
        folder: of the registry; None where the server follows none.

    Raises:
        ConfigError: the server follows no registry.
        BundleError: a record or the history is damaged.
    """
    if folder is None:
        raise ConfigError("this server follows no model registry; remedy: option: models")
    registry = ModelRegistry(folder)
    versions, moves = registry.versions(), registry.history().moves
    policy = service.predictors[DEFAULT].name
    return {
        "policy": policy,
        "serving": next((v.number for v in reversed(versions) if v.policy == policy), None),
        "versions": [_version(each) for each in versions[: -_MOST - 1 : -1]],
        "moves": [move.model_dump(mode="json") for move in moves[: -_MOST - 1 : -1]],
        "count": len(versions),
    }


def _version(version: Version) -> dict[str, Any]:
    record = version.record
    return {
        "version": version.number, "state": version.state, "policy": version.policy,
        "created": record.created.isoformat(), "parent": record.parent, "note": record.note,
        "trained": _range(record.trained), "judged": _range(record.judged),
        "figures": [str(figure) for figure in record.figures],
        "reasons": [reason.model_dump() for reason in record.reasons],
        "accepted": record.accepted,
    }  # fmt: skip


def _range(data: DataRange | None) -> dict[str, Any] | None:
    return None if data is None else data.model_dump(mode="json", exclude={"digest"})
