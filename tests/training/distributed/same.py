"""When two trainings count as the same."""

from __future__ import annotations

import torch
from torch import Tensor

# A softmax or a layer norm undoes (part of) these: their gradient is rounding, which Adam scales up.
UNDONE = ("pool.bias", "key_value.bias", "parts.bias", "head.bias", "candidate_out.bias",
          "decoder.bias.bias", "out.bias")  # fmt: skip


def assert_same_weights(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Equal up to the order in which floats are summed."""
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        if not name.endswith(UNDONE):
            torch.testing.assert_close(
                mine[name], value, rtol=1e-3, atol=1e-4, msg=f"{name}: {{}}".format
            )
