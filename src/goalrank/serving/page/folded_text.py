"""Texts without case and accents, so that a search finds "İstanbul" by "istanbul" and "Amélie" by "amelie"."""

from __future__ import annotations

import polars as pl

# Letters that Unicode does not split into a letter and a mark.
_WHOLE = {
    "ı": "i",
    "ł": "l",
    "ø": "o",
    "đ": "d",
    "ð": "d",
    "þ": "th",
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
}


def folded(texts: pl.Series) -> pl.Series:
    """Fold texts: compatibility forms, without marks, in lower case; null becomes empty.

    Args:
        texts: of any type; what is no text is written as one.
    """
    apart = texts.cast(pl.String).fill_null("").str.normalize("NFKD")
    plain = apart.str.replace_all(r"\p{M}", "").str.to_lowercase()
    return plain.str.replace_many(list(_WHOLE), list(_WHOLE.values()))


def fold(text: str) -> str:
    """Fold one text as `folded` does."""
    return str(folded(pl.Series([text]))[0])
