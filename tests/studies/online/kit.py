"""A test small enough to be run twice."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from goalrank.studies.online import OnlineConfig, build_online

SMOKE = Path(__file__).parents[3] / "configs" / "online" / "smoke.toml"


def smoke(arms: tuple[str, ...] | None = None, **changes: Any) -> OnlineConfig:
    """The smoke test, of some arms only, with changed settings."""
    data = tomllib.loads(SMOKE.read_text(encoding="utf-8"))
    data["world"] = SMOKE.parent / data["world"]
    if arms is not None:
        data["arms"] = [arm for arm in data["arms"] if arm["name"] in arms]
    return build_online(data | changes)
