"""Contract tests for rankers, rewards and log readers of other packages, and small data for them.

Inherit `RankerContract`, `RewardContract` or `ReaderContract` in a test class of your own; goalrank's
own rankers, rewards and readers pass the very same tests. Needs pytest: the extra [testing].
"""

from goalrank.errors import MissingExtraError

try:
    import pytest
except ModuleNotFoundError as error:
    raise MissingExtraError("goalrank.testing", "testing") from error

# Asserts of these files then say what they compared, as those of test files do.
pytest.register_assert_rewrite(
    "goalrank.testing.rankers", "goalrank.testing.readers", "goalrank.testing.rewards"
)

from goalrank.testing.batches import (  # noqa: E402
    all_lists,
    blocked,
    doubled,
    fresh_model,
    padded,
    permuted,
    shake,
    with_unknown,
)
from goalrank.testing.data import (  # noqa: E402
    CATEGORIES,
    NOON,
    make_entities,
    make_requests,
    make_rich_requests,
    make_table,
    spec_of,
)
from goalrank.testing.rankers import (  # noqa: E402
    RankerCase,
    RankerContract,
    assert_lists_valid,
    one_request,
)
from goalrank.testing.readers import ReaderContract  # noqa: E402
from goalrank.testing.rewards import RewardCase, RewardContract  # noqa: E402

__all__ = [
    "CATEGORIES",
    "NOON",
    "RankerCase",
    "RankerContract",
    "ReaderContract",
    "RewardCase",
    "RewardContract",
    "all_lists",
    "assert_lists_valid",
    "blocked",
    "doubled",
    "fresh_model",
    "make_entities",
    "make_requests",
    "make_rich_requests",
    "make_table",
    "one_request",
    "padded",
    "permuted",
    "shake",
    "spec_of",
    "with_unknown",
]
