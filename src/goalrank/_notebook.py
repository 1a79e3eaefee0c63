"""Small HTML tables by which objects show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = 'style="text-align:{};vertical-align:top"'


def html_table(
    title: str,
    rows: Iterable[Sequence[object]],
    *,
    header: Sequence[str] = (),
    notes: Iterable[str] = (),
) -> str:
    """A title, a table and notes as HTML; every text is escaped, and no script is in it.

    Args:
        title: bold, above.
        rows: cells of each row; numbers are aligned to the right, the rest to the left.
        header: names of the columns; without it the first column is set in bold.
        notes: a line each, below.
    """
    head = "".join(f"<th {_CELL.format('left')}>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{_row(row, not header)}</tr>" for row in rows)
    table = (
        f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
    )
    below = "".join(f"<p><small>{escape(note)}</small></p>" for note in notes)
    return f"<div><p><strong>{escape(title)}</strong></p>{table}{below}</div>"


def _row(cells: Sequence[object], named: bool) -> str:
    made = []
    for i, cell in enumerate(cells):
        tag = "th" if named and i == 0 else "td"
        side = "right" if isinstance(cell, int | float) else "left"
        text = (
            f"{cell:.4f}" if isinstance(cell, float) else f"{cell:,}" if side == "right" else cell
        )
        made.append(f"<{tag} {_CELL.format(side)}>{escape(str(text))}</{tag}>")
    return "".join(made)
