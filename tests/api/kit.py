"""Settings small enough for a test."""

from __future__ import annotations

TINY = [
    "light=['prm']",
    "ranker.width=16",
    "ranker.layers=1",
    "ranker.heads=2",
    "ranker.slots=3",
    "light_loop.steps=4",
    "light_loop.validate_every=2",
    "reward.width=16",
    "reward.heads=2",
    "reward.loop.steps=4",
    "reward.loop.validate_every=2",
    "training.steps=4",
    "training.validate_every=2",
]
