"""Families of features by name."""

from __future__ import annotations

from goalrank.features.family import FeatureFamily
from goalrank.registry import Registry

__all__ = ["DEFAULT_FAMILIES", "FEATURES"]

FEATURES: Registry[type[FeatureFamily]] = Registry(
    "feature family",
    "goalrank.features",
    {
        "popularity": "goalrank.features.counted:Popularity",
        "rates": "goalrank.features.counted:Rates",
        "ages": "goalrank.features.counted:Ages",
        "user_item": "goalrank.features.counted:UserItem",
        "recent_popularity": "goalrank.features.recent:RecentPopularity",
        "recent_rates": "goalrank.features.recent:RecentRates",
        "user_activity": "goalrank.features.users:UserActivity",
        "session": "goalrank.features.users:Session",
        "user_categories": "goalrank.features.user_categories:UserCategories",
    },
    option="features",
    base=FeatureFamily,
)

DEFAULT_FAMILIES = (
    "popularity",
    "rates",
    "ages",
    "user_item",
    "recent_popularity",
    "recent_rates",
    "user_activity",
    "session",
    "user_categories",
)
