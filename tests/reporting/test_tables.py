"""Tables: Markdown that reads back as it was given, LaTeX that compiles, and the evaluation's table."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.evaluation import evaluate
from goalrank.rankers import Constant, Scorer
from goalrank.reporting import (
    Bold,
    Column,
    Markup,
    Table,
    evaluation_table,
    make_columns,
    milliseconds,
)
from tests.helpers import make_columns as make_requests

COLUMNS = [Column("row"), *make_columns("a|b", "p", align="right"), Column("mid", "center")]
TABLE = Table(
    COLUMNS, [["x", "1", "2", "3"], [Bold("a longer one"), "4", "", "6"]], ["One.", "Two."]
)


def test_markdown():
    assert TABLE.markdown() == (
        "| row | a\\|b | p | mid |\n"
        "|---|---:|---:|:---:|\n"
        "| x | 1 | 2 | 3 |\n"
        "| **a longer one** | 4 |  | 6 |\n"
        "\n"
        "One.\n"
        "\n"
        "Two."
    )


def test_padded_columns_are_straight():
    lines = TABLE.markdown(padded=True).split("\n\n")[0].splitlines()
    assert {len(line) for line in lines} == {len(lines[0])}
    assert [line.replace(" ", "") for line in lines] == [
        line.replace(" ", "") for line in TABLE.markdown().split("\n\n")[0].splitlines()
    ]


@given(st.lists(st.lists(st.text("a|\\\n &", max_size=5), min_size=2, max_size=2), max_size=4))
def test_no_text_can_break_a_markdown_row(rows):
    lines = Table(make_columns("x", "y"), rows).markdown().split("\n")
    assert len(lines) == 2 + len(rows)
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert bars == [3] * len(lines)


def test_latex():
    head = [Column("50 % & more"), Column(Markup("$p$"), "right")]
    text = Table(head, [[Bold("a_b"), "−1 ± 2 †"]], ["See #1."]).latex("A^B {x}", comments=["a\nb"])
    assert text.splitlines() == [
        "% a b",
        r"\begin{table}",
        r"\centering",
        r"\caption{A\textasciicircum{}B \{x\}}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"50 \% \& more & $p$ \\",
        r"\midrule",
        r"\textbf{a\_b} & $-$1 $\pm$ 2 $\dagger$ \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par {\footnotesize See \#1.}",
        r"\end{table}",
    ]


def test_a_row_of_another_width_is_refused():
    with pytest.raises(ValueError, match="3 cells in 2 columns"):
        Table(make_columns("x", "y"), [["1", "2"], ["1", "2", "3"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0001, "<0.001"), (0.12345, "0.123"), (12.34, "12.3"), (12345.6, "12,346")],
)
def test_milliseconds(value, text):
    assert milliseconds(value) == text


class Oracle(Scorer):
    def scores(self, batch):
        return batch.relevance


def test_the_table_of_an_evaluation():
    found = evaluate({"constant": Constant(), "oracle": Oracle()}, make_requests(40), slots=2)
    lines = evaluation_table(found, ["ndcg", "auc"]).markdown().splitlines()
    assert lines[0] == "| ranker | ndcg@2 | auc | ms/request |"
    assert lines[1] == "|---|---:|---:|---:|"
    assert lines[2].startswith("| oracle | 1.0000 [1.0000, 1.0000] |")
    assert lines[3].startswith("| constant | ")
    assert f"{found.excluded} without positives excluded" in lines[-1]
    everything = evaluation_table(found)
    assert [column.heading for column in everything.columns[1:-1]] == found.metrics


def test_a_table_of_one_user_prints_no_infinite_interval():
    found = evaluate({"oracle": Oracle()}, make_requests(40, users=1), slots=2)
    assert (
        evaluation_table(found, ["ndcg"])
        .markdown()
        .splitlines()[2]
        .startswith("| oracle | 1.0000 | ")
    )


def test_a_table_needs_no_plotting_library():
    code = (
        "import sys; from goalrank.reporting import Table, evaluation_table; "
        "sys.exit('matplotlib' in sys.modules or 'jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
