"""A sentence model without weights: each word has a fixed random vector; a text is their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 24


class Words:
    calls = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        type(self).calls += len(texts)
        return np.stack([np.mean([_vector(w) for w in t.lower().split()], 0) for t in texts])


def _vector(word: str) -> NDArray[np.float32]:
    seed = int.from_bytes(word.encode()[:8], "big")
    return np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)


class Silent:
    def __init__(self) -> None:
        raise AssertionError("no sentence model may be loaded")


class Odd:
    """A model whose answer a test chooses."""

    answer: Callable[[NDArray[np.float32]], object] = staticmethod(lambda vectors: vectors)

    def encode(self, texts: Sequence[str]) -> object:
        return type(self).answer(Words().encode(texts))
