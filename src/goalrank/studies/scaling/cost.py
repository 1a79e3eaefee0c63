"""Cost of a ranker: parameters, and floating point operations counted on one batch."""

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
from goalrank.wording import counted

_BACKWARD = 3  # a training step costs one forward pass, and twice as much for the gradients


@dataclass(frozen=True)
class Cost:
    """Parameters and floating point operations of a ranker.

    Attributes:
        parameters: P, without id tables, whose size depends on the catalogue and not on the model.
        parameters_all: with id tables.
        flops_training: operations of all steps of the ranker's own training, without the work of
            the teacher, which cells share.
        flops_request: operations of ranking one request.
    """

    parameters: int
    parameters_all: int
    flops_training: float
    flops_request: float


def cost_of(
    ranker: Ranker, batch: Batch, slots: int, *, group: int, steps: int, batch_size: int
) -> Cost:
    """Count the cost of a ranker on one batch; a training step counts as three forward passes.

    Args:
        ranker: the ranker.
        batch: of the training table; only its sizes matter.
        slots: L.
        group: G, lists per request, half of them drawn by the ranker; 0 for training on labels.
        steps: of the training.
        batch_size: requests per training step.
    """
    with_ids, without_ids = module_parameters({"it": ranker})
    ranker.eval()
    ranking = count_flops(lambda: ranker.rank(batch, slots))
    step = sum(_step(part, batch, slots, group) for part in _trained(ranker))
    each = 1.0 / batch.size
    return Cost(without_ids, with_ids, step * each * batch_size * steps, ranking * each)


def count_flops(work: Callable[[], Any]) -> float:
    """Count the operations of matrix products and attention (a multiply-add counts as two).

    Args:
        work: is called once.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_ONEDNN)
    # The plain attention kernel consists of matrix products, which the counter sees on any device.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        work()
    return float(counter.get_total_flops())


def _linear_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Count the operations of x [..., D] times weight [D', D], given their shapes."""
    out: int = 2 * math.prod(x) * int(weight[0])
    return out


# `goalrank.nn.Linear` calls oneDNN where that is faster; the counter of PyTorch does not know it.
_ONEDNN: dict[Any, Any] = (
    {torch.ops.mkldnn._linear_pointwise: _linear_flops}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise")
    else {}
)


def _trained(ranker: Ranker) -> list[Ranker]:
    """List the models that are trained one by one: those of a multi-generator, or the ranker."""
    members = getattr(ranker, "rankers", None)
    return [ranker] if members is None else [cast(Ranker, each) for each in members]


def _step(ranker: Ranker, batch: Batch, slots: int, group: int) -> float:
    """Count the operations of one training step on the batch."""
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
    scored = count_flops(lambda: ranker.list_log_prob(state, batch, lists))
    return _BACKWARD * (encoded + scored) + drawn


def matched_width(spec: InputSpec, config: RankerConfig, base: str, layers: int, k: int) -> int:
    """Find the width at which k copies of a small ranker have as many parameters as one ranker.

    Id tables are not counted. The copies have the heads of `config` if they divide the width, else
    2.

    Args:
        spec: input sizes.
        config: of the one ranker.
        base: name of the small ranker.
        layers: of the small ranker.
        k: number of copies.

    Returns:
        The largest even width from 8 on with at most as many parameters.

    Raises:
        ConfigError: even k copies of width 8 have more parameters.
    """
    target = _parameters_without_ids(spec, config)
    best = 0
    for width in range(8, config.sizes().width + 1, 2):
        heads = config.heads if config.heads and width % config.heads == 0 else 2
        small = {"name": base, "width": width, "layers": layers, "heads": heads, "options": {}}
        if k * _parameters_without_ids(spec, config.model_copy(update=small)) > target:
            break
        best = width
    if best == 0:
        raise ConfigError(
            f"{k} copies of {base} with {counted(layers, 'layer')} have more than the {target:,} parameters "
            f"of the size that they must match; remedy: fewer copies (option: rankers.options.k)"
        )
    return best


def _parameters_without_ids(spec: InputSpec, config: RankerConfig) -> int:
    with torch.device("meta"):
        return module_parameters({"it": build_ranker(spec, config)})[1]
