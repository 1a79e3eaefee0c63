"""Why a ranker placed a candidate where it did: its place with one input at a time made ordinary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from goalrank.evaluation.ranking.evaluate import evaluating, known_only
from goalrank.rankers import Ranker
from goalrank.requests import EncodedRequests, Encoder

SCORE = "candidate_score"

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]


@dataclass(frozen=True)
class Reason:
    """An input without which a candidate would stand lower.

    Attributes:
        feature: name of a candidate feature, or "candidate_score" for the retriever's.
        value: the candidate's, in the unit of the requests table.
        typical: mean of the request's candidates.
        place: where the ranker would put the candidate if it had the mean, from 0; None where it
            would not be in the list.
    """

    feature: str
    value: float
    typical: float
    place: int | None


def find_reasons(
    ranker: Ranker,
    encoder: Encoder,
    columns: EncodedRequests,
    chosen: Sequence[tuple[int, int]],
    slots: int,
) -> list[list[Reason]]:
    """Find the candidate features, and the retriever's score, that lift candidates.

    One input of one candidate at a time is set to the mean of the request's candidates, scores of
    models are computed anew, and the ranker ranks again. This says what the ranker reacts to, not
    what causes feedback; where two inputs say the same, neither may seem to matter. What a ranker
    takes from the item itself, the user and the history is not tried.

    Args:
        ranker: makes the lists.
        encoder: the one that encoded `columns`; knows names, units and scores of models.
        columns: encoded requests.
        chosen: (row of `columns`, position of a candidate in it) of each candidate to explain, which
            is in the ranker's list.
        slots: L.

    Returns:
        For each of `chosen` the inputs without which it would stand lower, most important first.
    """
    names = [*encoder.info.candidate_features, *([SCORE] if encoder.score else [])]
    if not names or not chosen:
        return [[] for _ in chosen]
    rows, positions = (np.array(part, np.int64) for part in zip(*chosen))
    values, typical = _values(columns, rows, positions)
    altered = _altered(encoder, columns, rows, positions, typical, len(names))
    places = _places(ranker, altered, np.repeat(positions, len(names) + 1), slots)
    raw, usual = (_in_units(encoder, part)[:, : len(names)] for part in (values, typical))
    out = []
    for k, (before, *after) in enumerate(places.reshape(len(chosen), -1).tolist()):
        apart = np.abs(values[k] - typical[k])
        fallen = [j for j in range(len(names)) if after[j] > before]
        fallen.sort(key=lambda j: (-after[j], -apart[j]))
        out.append(
            [
                Reason(
                    names[j], float(raw[k, j]), float(usual[k, j]),
                    after[j] if after[j] < slots else None,
                )
                for j in fallen
            ]
        )  # fmt: skip
    return out


def _values(columns: EncodedRequests, rows: Longs, positions: Longs) -> tuple[Floats, Floats]:
    """Own features and score, standardised: of the candidates, and the mean of each request."""
    batch = known_only(columns.batch(rows))
    own = columns.own_features.shape[1]
    inputs = torch.cat([batch.candidate_features[..., :own], batch.candidate_score[..., None]], -1)
    real = batch.candidate_mask[..., None].to(inputs.dtype)
    mean = (inputs * real).sum(1) / real.sum(1).clamp_min(1)
    value = inputs[torch.arange(len(rows)), torch.from_numpy(positions)]
    return value.numpy(), mean.numpy()


def _altered(
    encoder: Encoder,
    columns: EncodedRequests,
    rows: Longs,
    positions: Longs,
    typical: Floats,
    inputs: int,
) -> EncodedRequests:
    """Each request as it is, then once per input with the candidate's own set to the mean."""
    copies = columns.take(np.repeat(rows, inputs + 1))
    features, score = copies.own_features.copy(), copies.candidate_score.copy()
    own = features.shape[1]
    at = copies.candidate_start[:-1] + np.repeat(positions, inputs + 1)
    for j, mean in enumerate(typical.T[:inputs]):
        place = at[j + 1 :: inputs + 1]
        if j < own:
            features[place, j] = mean
        else:
            score[place] = typical[:, own]
    copies = replace(copies, candidate_features=features, candidate_score=score, model_scores=0)
    if encoder.model_scores is None:
        return copies
    return copies.with_model_scores(encoder.model_scores.of(copies))


def _places(ranker: Ranker, columns: EncodedRequests, positions: Longs, slots: int) -> Longs:
    """Place of each request's candidate in the ranker's list, from 0; L where it is not in it."""
    batch = known_only(columns.batch(slice(None)))
    with evaluating([ranker]), torch.inference_mode():
        found = ranker.rank(batch, slots).numpy() == positions[:, None]
    return np.where(found.any(1), found.argmax(1), slots)


def _in_units(encoder: Encoder, values: Floats) -> NDArray[np.float64]:
    """Standardised features and score in the units of the requests table."""
    scale = np.array([*encoder.candidate.tolist(), encoder.score or (0.0, 1.0)], np.float64)
    return values * scale[:, 1] + scale[:, 0]
