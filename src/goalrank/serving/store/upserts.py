"""Insert statements that update the row which is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


def upsert(table: sa.Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Make an insert statement that takes an `on_conflict_do_update` clause.

    Args:
        table: the table.
        dialect: "sqlite" or "postgresql".
    """
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # not loaded where the store is a file

    return postgresql.insert(table)
