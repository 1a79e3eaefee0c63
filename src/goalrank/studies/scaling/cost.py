"""What a ranker costs: parameters, and floating point operations counted on one batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from goalrank.errors import ConfigError
from goalrank.rankers import Ranker, RankerConfig, build_ranker
from goalrank.requests import Batch, InputSpec
from goalrank.studies.common import module_parameters

_BACKWARD = 3  # forward once, and twice as much again for the gradients


@dataclass(frozen=True)
class Cost:
    """Parameters and operations.

    Attributes:
        parameters: P, beside id tables, which grow with the catalogue and not with the model.
        parameters_all: id tables included.
        flops_training: of the ranker's own training, all steps; the teacher's work, which cells
            share, is not in it.
        flops_request: of ranking one request.
    """

    parameters: int
    parameters_all: int
    flops_training: float
    flops_request: float


def cost_of(
    ranker: Ranker, batch: Batch, slots: int, *, group: int, steps: int, batch_size: int
) -> Cost:
    """Count on one batch; a training step is its forward pass three times over.

    Args:
        batch: of the training table; only its sizes matter.
        group: G lists a request, half of them drawn by the ranker; 0 = trained on labels.
        steps, batch_size: of the training.
    """
    whole, beside = module_parameters({"it": ranker})
    ranker.eval()
    served = count_flops(lambda: ranker.rank(batch, slots))
    step = sum(_step(part, batch, slots, group) for part in _trained(ranker))
    each = 1.0 / batch.size
    return Cost(beside, whole, step * each * batch_size * steps, served * each)


def count_flops(work: Callable[[], Any]) -> float:
    """Operations of matrix products and attention (a multiply-add is two)."""
    counter = FlopCounterMode(display=False, custom_mapping=_ONEDNN)
    # The plain kernel is made of matrix products that the counter sees, on every device.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        work()
    return float(counter.get_total_flops())


def _linear_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Of x [..., D] times weight [D', D], given their shapes."""
    out: int = 2 * math.prod(x) * int(weight[0])
    return out


# `goalrank.nn.Linear` calls oneDNN where that is faster; PyTorch's counter does not know the call.
_ONEDNN: dict[Any, Any] = (
    {torch.ops.mkldnn._linear_pointwise: _linear_flops}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise")
    else {}
)


def _trained(ranker: Ranker) -> list[Ranker]:
    """Models trained one by one: a multi-generator's, else the ranker itself."""
    members = getattr(ranker, "rankers", None)
    return [ranker] if members is None else [cast(Ranker, each) for each in members]


def _step(ranker: Ranker, batch: Batch, slots: int, group: int) -> float:
    """Operations of one training step on the batch."""
    if not ranker.trainable:
        return 0.0
    if group == 0:
        return _BACKWARD * count_flops(lambda: ranker.loss(batch, slots))
    rng = torch.Generator().manual_seed(0)
    state = ranker.encode(batch)
    encoded = count_flops(lambda: ranker.encode(batch))
    lists = ranker.draw(state, batch, group, slots, rng)
    drawn = count_flops(
        lambda: ranker.draw(state, batch, max(group // 2, 1), slots, torch.Generator())
    )
    valued = count_flops(lambda: ranker.list_log_prob(state, batch, lists))
    return _BACKWARD * (encoded + valued) + drawn


def matched_width(spec: InputSpec, config: RankerConfig, base: str, layers: int, k: int) -> int:
    """Width at which k copies of a small ranker have as many parameters as one of `config`.

    Heads as in `config` where they divide the width, else 2. Ids aside.

    Raises:
        ConfigError: even the narrowest k copies are larger.
    """
    target = _beside_ids(spec, config)
    best = 0
    for width in range(8, config.sizes().width + 1, 2):
        heads = config.heads if config.heads and width % config.heads == 0 else 2
        small = {"name": base, "width": width, "layers": layers, "heads": heads, "options": {}}
        if k * _beside_ids(spec, config.model_copy(update=small)) > target:
            break
        best = width
    if best == 0:
        raise ConfigError(
            f"{k} copies of {base} with {layers} layer(s) have more than the {target:,} parameters "
            f"of the size that they are to match; remedy: fewer copies (option: rankers.options.k)"
        )
    return best


def _beside_ids(spec: InputSpec, config: RankerConfig) -> int:
    with torch.device("meta"):
        return module_parameters({"it": build_ranker(spec, config)})[1]
