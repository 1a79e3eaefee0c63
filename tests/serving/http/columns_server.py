"""A server with state whose model was trained with columns of items and users."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from goalrank.requests import LogRule
from goalrank.serving import Service, Store, create_app
from goalrank.serving.http.server import keep_state
from tests.bundles.kit import make_bundle
from tests.bundles.test_latest_rows import requests
from tests.tables import make_table


def bundle_with_columns(folder: Path) -> Path:
    """An untrained model of a log of exposures."""
    table = make_table(60)
    rule = LogRule(shape="exposures", strength=("click", "long"), depth=5)
    table.info = table.info.replace(log=rule)
    return make_bundle("goalrank", table, reward=False).save(folder / "bundle")


class Server:
    """A server in this process, which can be ended and started again."""

    def __init__(self, bundle: Path, folder: Path, **options: Any) -> None:
        self.bundle, self.folder, self.options = bundle, folder, options
        self.start()

    def start(self) -> None:
        store = Store(f"sqlite:///{self.folder / 's.db'}")
        self.service = Service(self.bundle, store, deadline=30, **self.options)
        self.keeper = keep_state(self.service, self.folder / "state")
        self.service.keep(self.keeper)
        self.client = TestClient(create_app(self.service))
        self.client.__enter__()

    def stop(self) -> None:
        self.client.__exit__(None, None, None)

    def send(self, *events: dict[str, Any], status: int = 200) -> Any:
        answer = self.client.post("/v1/events", json={"events": list(events)})
        assert answer.status_code == status, answer.text
        return answer.json()

    def lists(self, rows: list[dict[str, Any]] | None = None) -> list[Any]:
        """Lists and log-probabilities of requests."""
        found = []
        for number, row in enumerate(rows or requests()):
            body = {
                name: value for name, value in row.items() if name not in ("shown", "propensity")
            }
            body |= {
                "request_id": f"{datetime.now(UTC).timestamp()}-{number}",
                "time": row["time"].isoformat(),
                "history_time": [each.isoformat() for each in row["history_time"]],
            }
            answer = self.client.post("/v1/rank", json=body)
            assert answer.status_code == 200, answer.text
            found.append(
                (answer.json()["items"], pytest.approx(answer.json()["log_prob"], abs=1e-5))
            )
        return found
