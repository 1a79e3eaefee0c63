"""Arena: suites of data sets, rows, sizes and seeds; their ledger, tables and figures."""

from goalrank.studies.arena.card import card_suite, make_card
from goalrank.studies.arena.figures import plot
from goalrank.studies.arena.leaderboards import Leaderboard, LeaderboardRow, load_leaderboards
from goalrank.studies.arena.ledger import LEDGER_VERSION, Ledger
from goalrank.studies.arena.publish import publish
from goalrank.studies.arena.runner import RunResult, run_suite, stored_suite
from goalrank.studies.arena.tables import latex, markdown, verdict

__all__ = [
    "LEDGER_VERSION",
    "Leaderboard",
    "LeaderboardRow",
    "Ledger",
    "RunResult",
    "card_suite",
    "latex",
    "load_leaderboards",
    "make_card",
    "markdown",
    "plot",
    "publish",
    "run_suite",
    "stored_suite",
    "verdict",
]
