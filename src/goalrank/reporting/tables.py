"""Tables as text: one description of headings, rows and notes, written as Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Align = Literal["default", "left", "right", "center"]

_MARKDOWN_ALIGN: dict[Align, str] = {
    "default": "---",
    "left": ":---",
    "right": "---:",
    "center": ":---:",
}
_LATEX_ALIGN: dict[Align, str] = {"default": "l", "left": "l", "right": "r", "center": "c"}
_LATEX = {
    **{c: f"\\{c}" for c in "&%#_{}$"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "±": r"$\pm$", "−": "$-$", "–": "--", "†": r"$\dagger$",
    "‡": r"$\ddagger$", "≤": r"$\leq$", "≥": r"$\geq$",
}  # fmt: skip


@dataclass(frozen=True)
class Bold:
    """A cell printed in bold type."""

    text: str


@dataclass(frozen=True)
class Markup:
    """A cell or heading already in the markup of the output, which is not escaped."""

    text: str


Cell = str | Bold | Markup


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: printed above the cells.
        align: of the cells; "default" leaves it to the reader of the output.
    """

    heading: Cell
    align: Align = "default"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: headings with alignment, from left to right.
        rows: cells, as many per row as there are columns.
        notes: paragraphs below the table.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in {len(self.columns)} columns: {row}")

    def markdown(self, *, padded: bool = False) -> str:
        """Write the table in Markdown, the notes below it as paragraphs.

        Args:
            padded: fill cells with spaces, so that columns are straight in plain text too.
        """
        head = [_markdown(column.heading) for column in self.columns]
        marks = [_MARKDOWN_ALIGN[column.align] for column in self.columns]
        body = [[_markdown(cell) for cell in row] for row in self.rows]
        if padded:
            widths = [max(map(len, cells)) for cells in zip(head, marks, *body, strict=True)]
            head, marks, *body = (
                [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
                for cells in (head, marks, *body)
            )
        line = f"| {' | '.join(marks)} |" if padded else f"|{'|'.join(marks)}|"
        lines = [_markdown_row(head), line, *map(_markdown_row, body)]
        return "\n\n".join(["\n".join(lines), *self.notes])

    def latex(self, caption: str, *, comments: Iterable[str] = ()) -> str:
        """Write the table as a `table` environment (package booktabs), the notes in small type.

        Args:
            caption: plain text above the table.
            comments: lines for readers of the source, before the table.
        """
        lines = [
            *(f"% {' '.join(comment.split())}" for comment in comments),
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\begin{{tabular}}{{{''.join(_LATEX_ALIGN[c.align] for c in self.columns)}}}",
            r"\toprule",
            _latex_row([column.heading for column in self.columns]),
            r"\midrule",
            *map(_latex_row, self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par {{\footnotesize {escape_latex(note)}}}" for note in self.notes),
            r"\end{table}",
        ]
        return "\n".join(lines)


def make_columns(*headings: Cell, align: Align = "default") -> list[Column]:
    """Make columns of these headings, all with the same alignment."""
    return [Column(heading, align) for heading in headings]


def escape_latex(text: str) -> str:
    """Write plain text so that LaTeX prints it as it is."""
    return "".join(_LATEX.get(c, c) for c in text)


def milliseconds(value: float | None) -> str:
    """Write a duration: three digits, never an exponent; a dash for None."""
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _markdown(cell: Cell) -> str:
    if isinstance(cell, Markup):
        return cell.text
    text = (cell.text if isinstance(cell, Bold) else cell).replace("|", r"\|")
    text = text.replace("\n", " ")
    return f"**{text}**" if isinstance(cell, Bold) else text


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_row(cells: Iterable[Cell]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex(cell: Cell) -> str:
    if isinstance(cell, Markup):
        return cell.text
    if isinstance(cell, Bold):
        return rf"\textbf{{{escape_latex(cell.text)}}}"
    return escape_latex(cell)
