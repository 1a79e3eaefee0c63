"""Insert statements that update the row which is there already."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def upsert(table: sa.Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Make an insert statement that takes an `on_conflict_do_update` clause.

    Args:
        table: the table.
        dialect: "sqlite" or "postgresql".
    """
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
