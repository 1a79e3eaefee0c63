"""Traffic for a running server: its bundle's example users ask once each and click what they clicked in the log.

python examples/traffic.py http://127.0.0.1:8000
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any
from urllib.parse import quote


def call(address: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON answer to a GET, or to a POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def main(server: str) -> None:
    """Ask for lists as the example users do, and report what they like."""
    users = call(f"{server}/v1/page/users?limit=100")["users"]
    clicks = 0
    for each in users:
        example = call(f"{server}/v1/page/request?user={quote(each['user'])}")
        asked, log = example["request"], example["answers"]
        answer = call(f"{server}/v1/rank", asked)
        liked = {asked["candidates"][at] for at in log["liked"]}
        events = [
            {"request_id": answer["request_id"], "item": item, "kind": log["target"]}
            for item in answer["items"]
            if item in liked
        ]
        if events:
            clicks += call(f"{server}/v1/feedback", {"events": events})["stored"]
    print(f"{len(users)} users asked and gave {clicks} answers")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
