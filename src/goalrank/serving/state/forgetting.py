"""Deletion of a user's exposures and their feedback from the store."""

from __future__ import annotations

import sqlalchemy as sa

from goalrank.serving.store.database import EXPOSURES

__all__ = ["forget_exposures"]


def forget_exposures(connection: sa.Connection, user_id: int | str) -> int:
    """Delete the exposures of a user; feedback goes with them, and no export has them any more.

    The store has no index of users, so that all exposures are looked through.

    Args:
        connection: to the store, inside a transaction that writes.
        user_id: id.

    Returns:
        How many there were.
    """
    body = sa.cast(EXPOSURES.c.body, sa.JSON)["user_id"]
    if connection.dialect.name == "sqlite":
        mine = sa.func.json_extract(EXPOSURES.c.body, "$.user_id") == user_id
    else:
        text = body.as_string() == str(user_id)
        # 7 and "7" are two users, and their texts are one.
        kind = "string" if isinstance(user_id, str) else "number"
        mine = text & (sa.func.json_typeof(body) == kind)
    return connection.execute(sa.delete(EXPOSURES).where(mine)).rowcount
