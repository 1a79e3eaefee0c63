"""The model registry: versions of a model on disk, and the pointers that servers follow.

Names are loaded on first use, so that a server's options can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door

if TYPE_CHECKING:
    from goalrank.models.comparison import (
        Change,
        compare_versions,
    )
    from goalrank.models.record import (
        CHAMPION,
        Code,
        DataRange,
        Figure,
        History,
        Move,
        Pointer,
        Reason,
        State,
        VersionRecord,
    )
    from goalrank.models.registry import (
        ModelRegistry,
        Version,
    )
    from goalrank.models.source import (
        source_digest,
    )

__all__ = [
    "CHAMPION",
    "Change",
    "Code",
    "DataRange",
    "Figure",
    "History",
    "ModelRegistry",
    "Move",
    "Pointer",
    "Reason",
    "State",
    "Version",
    "VersionRecord",
    "compare_versions",
    "source_digest",
]

__getattr__ = lazy_door(
    __name__,
    {
        "CHAMPION": "goalrank.models.record",
        "Change": "goalrank.models.comparison",
        "Code": "goalrank.models.record",
        "DataRange": "goalrank.models.record",
        "Figure": "goalrank.models.record",
        "History": "goalrank.models.record",
        "ModelRegistry": "goalrank.models.registry",
        "Move": "goalrank.models.record",
        "Pointer": "goalrank.models.record",
        "Reason": "goalrank.models.record",
        "State": "goalrank.models.record",
        "Version": "goalrank.models.registry",
        "VersionRecord": "goalrank.models.record",
        "compare_versions": "goalrank.models.comparison",
        "source_digest": "goalrank.models.source",
    },
)
