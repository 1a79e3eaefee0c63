"""Deletion of a user's exposures and their feedback from the store."""

from __future__ import annotations

import sqlalchemy as sa

from goalrank.serving.store.database import EXPOSURES, for_writing, store_error

__all__ = ["forget_exposures"]


def forget_exposures(engine: sa.Engine, user_id: int | str) -> int:
    """Delete the exposures of a user; feedback goes with them, and no export has them any more.

    The store has no index of users, so that all exposures are looked through.

    Args:
        engine: of the store.
        user_id: id.

    Returns:
        How many there were.

    Raises:
        StoreError: the store refuses.
    """
    body = sa.cast(EXPOSURES.c.body, sa.JSON)["user_id"]
    if engine.dialect.name == "sqlite":
        mine = sa.func.json_extract(EXPOSURES.c.body, "$.user_id") == user_id
    else:
        text = body.as_string() == str(user_id)
        # 7 and "7" are two users, and their texts are one.
        kind = "string" if isinstance(user_id, str) else "number"
        mine = text & (sa.func.json_typeof(body) == kind)
    try:
        with for_writing(engine).begin() as connection:
            return connection.execute(sa.delete(EXPOSURES).where(mine)).rowcount
    except sa.exc.SQLAlchemyError as error:
        raise store_error(error, []) from error
