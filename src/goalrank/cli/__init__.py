"""The command line: `goalrank VERB …`; one file per verb. Heavy libraries load when a verb runs."""

from goalrank.cli.application import app, main

__all__ = [
    "app",
    "main",
]
