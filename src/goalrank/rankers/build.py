"""Rankers by name, at a size.

A ranker is made by its classmethod `from_config(spec, config)`. The one that every `Ranker` has looks
at the constructor: parameters called `spec`, `sizes`, `slots`, `ratio` and `beam` are given, and
keyword-only parameters are the ranker's own options (`RankerConfig.options`). So a subclass such as ::

    class Mine(Scorer):
        def __init__(self, spec: InputSpec, sizes: EncoderSizes, *, gain: float = 1.0) -> None: ...

can be named as "package.module:Mine" with options {"gain": 2.0}, and needs nothing else. Override
`from_config` only where that is not enough.
"""

from __future__ import annotations

from typing import Any

from goalrank.constructor_options import keyword_options
from goalrank.rankers.base import Ranker
from goalrank.rankers.config import RankerConfig
from goalrank.registry import Registry
from goalrank.requests import InputSpec

_ROOM = "goalrank.rankers"

RANKERS: Registry[type[Ranker]] = Registry(
    "ranker",
    "goalrank.rankers",
    {
        "dcn_v2": f"{_ROOM}.scorers.dcn:DCN",
        "din": f"{_ROOM}.scorers.din:DIN",
        "dlcm": f"{_ROOM}.scorers.dlcm:DLCM",
        "dnn": f"{_ROOM}.scorers.dnn:DNN",
        "dpp": f"{_ROOM}.baselines.diversity:DPP",
        "egrank": f"{_ROOM}.sequential.seq2slate:EGRank",
        "generator": f"{_ROOM}.goalrank.generator:Generator",
        "goalrank": f"{_ROOM}.goalrank.generator:Generator",
        "hstu": f"{_ROOM}.scorers.hstu:HSTU",
        "lambdamart": f"{_ROOM}.scorers.lambdamart:LambdaMART",
        "linear": f"{_ROOM}.scorers.linear:LinearScores",
        "mir": f"{_ROOM}.scorers.mir:MIR",
        "mmr": f"{_ROOM}.baselines.diversity:MMR",
        "nar4rec": f"{_ROOM}.sequential.nar4rec:NAR4Rec",
        "nlgr": f"{_ROOM}.sequential.nlgr:NLGR",
        "pier": f"{_ROOM}.composite.pier:PIER",
        "prm": f"{_ROOM}.scorers.prm:PRM",
        "prs": f"{_ROOM}.composite.prs:PRS",
        "rankmixer": f"{_ROOM}.scorers.rankmixer:RankMixer",
        "sasrec": f"{_ROOM}.scorers.sasrec:SASRec",
        "seq2slate": f"{_ROOM}.sequential.seq2slate:Seq2Slate",
        "setrank": f"{_ROOM}.scorers.setrank:SetRank",
        "xgboost": f"{_ROOM}.scorers.xgboost_trees:XGBoost",
    },
    option="ranker.name",
    base=Ranker,
)


def ranker_names() -> list[str]:
    """Names that `build_ranker` knows, those of plug-ins among them."""
    return RANKERS.names()


def ranker_options(name: str) -> dict[str, Any]:
    """What `RankerConfig.options` may hold for a ranker, with the defaults.

    Raises:
        ConfigError: the name is unknown or cannot be imported.
    """
    return keyword_options(RANKERS[name])


def build_ranker(spec: InputSpec, config: RankerConfig, cls: type[Ranker] | None = None) -> Ranker:
    """A fresh ranker.

    Args:
        spec: input sizes.
        config: name, sizes and options of the ranker.
        cls: the class, where it is known already; None looks `config.name` up.

    Raises:
        ConfigError: the name or an option is unknown; the nearest is suggested.
    """
    return (cls or RANKERS[config.name]).from_config(spec, config)


def parameter_count(module: Any) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
