"""docs/how-to.md: the questions of newcomers are answered, by commands and settings that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.runner import ROOT

TEXT = (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
ANSWERS = {
    question: (answer, more)
    for question, answer, more in re.findall(
        r"^### (How do I [^\n]+\?)\n\n([^\n]+) More: ([^\n]+)\.$", TEXT, re.MULTILINE
    )
}


def test_every_question_is_a_heading_with_an_answer():
    """Search shows headings first, and pages by name."""
    assert len(ANSWERS) == TEXT.count("\n### ") >= 8


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("not shown", "Leave the position of those not shown empty"),
        ("what to send", "the candidates, and what the model was trained with"),
        ("how sure", "goalrank evaluate"),
        ("metric", "--metric mine:function"),
        ("roll back", "goalrank models rollback"),
        ("serving faster", "--backend onnx"),
        ("text embeddings", "Put them into `items.parquet`"),
        ("exploration", "goalrank serve --temperature 1.0"),
        ("memory", "590 bytes"),
    ],
)
def test_a_question_has_one_short_answer_that_leads_on(words, answer):
    [(said, more)] = [row for question, row in ANSWERS.items() if words in question]
    assert answer in said
    assert len(said.split()) <= 50
    assert re.search(r"\]\([\w/-]+\.md#", more)


def test_commands_of_the_answers_exist():
    commands = re.findall(
        r"`goalrank ((?:models )?[a-z]+)", " ".join(said for said, _ in ANSWERS.values())
    )
    assert len(commands) >= 4
    assert [name for name in commands if f"[`goalrank {name}`]" not in COMMANDS] == []


def test_the_page_can_be_found():
    assert "(docs/how-to.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
