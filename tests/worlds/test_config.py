"""Settings: what is refused, and that the presets shipped in configs/worlds are sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from goalrank.errors import ConfigError
from goalrank.worlds import KindConfig, LoggingConfig, World, WorldConfig, describe

PRESETS = Path(__file__).parents[2] / "configs" / "worlds"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("decay", 1.2),
        ("continue_click", -0.1),
        ("continue_skip", float("nan")),
        ("fatigue", -1.0),
        ("noise", float("inf")),
        ("candidates", 0),
        ("slots", 31),
        ("items", 10),
        ("clusters", 5000),
        ("tastes", 21),
        ("users", 0),
        ("users", "many"),
        ("examination", "telepathy"),
        ("kinds", ()),
        ("kinds", [{"name": "like"}]),
        ("kinds", [{"name": "click", "weight": 0.0}]),
        ("kinds", [{"name": "click"}, {"name": "click"}]),
        ("logging", {"random": 1.0, "pointwise": 0.5, "popular": 0.0}),
        ("logging", {"shuffle": 1.5}),
        ("colour", "red"),
    ],
)
def test_refused_at_construction(option: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        WorldConfig(**{option: value})
    assert str(value if isinstance(value, str) else option) in str(caught.value).lower()
    assert "remedy" in str(caught.value)


def test_frozen_and_nested_errors() -> None:
    with pytest.raises(ConfigError, match="shuffle"):
        LoggingConfig(shuffle=2.0)
    with pytest.raises(ConfigError, match="name"):
        KindConfig(name="Long View")


def test_load_reads_toml_and_names_faults(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text('users = 7\n[[kinds]]\nname = "click"\nweight = 2\n[logging]\nshuffle = 0.5\n')
    config = WorldConfig.load(path)
    assert (config.users, config.kinds[0].weight, config.logging.shuffle) == (7, 2.0, 0.5)
    for text in ("users = ", "users = 1.5", "user = 7"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"user|TOML"):
            WorldConfig.load(path)
    with pytest.raises(ConfigError, match=r"none\.toml"):
        WorldConfig.load(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.toml")), ids=lambda p: p.stem)
def test_presets_leave_headroom(path: Path) -> None:
    config = WorldConfig.load(path)
    assert config.name == path.stem
    rows = describe(World(config), 64, beam=8).rows
    share = {name: m.share_of_best for name, m in rows.items()}
    assert share["random"] < share["true pointwise sort"] < 0.97
    assert rows["near-optimum"].regret == 0.0


def test_fatigue_preset_matches_its_purpose() -> None:
    described = describe(World(WorldConfig.load(PRESETS / "fatigue.toml")), 128)
    share = {name: m.share_of_best for name, m in described.rows.items()}
    assert share["random"] < 0.80
    assert share["random"] - 0.02 < share["logging policy"] < 0.82
    assert 0.85 < share["true pointwise sort"] < 0.92
    assert "near-optimum" in str(described)
