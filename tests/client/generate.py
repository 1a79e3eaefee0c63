"""Writes `goalrank.client.bodies` from the service's own description: `python -m tests.client.generate`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from goalrank.serving.http.app import create_app
from goalrank.serving.http.events import add_events
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle

TARGET = Path(__file__).parents[2] / "src" / "goalrank" / "client" / "bodies.py"
_HEAD = '"""Bodies and answers of the service; made by `python -m tests.client.generate`, not by hand."""'
_LIMITS = (
    "title", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern", "minLength",
    "maxLength", "minItems", "maxItems", "format",
)  # fmt: skip


def described() -> dict[str, Any]:
    """The description of the routes that callers use, with those of state."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(reward=False).save(Path(folder) / "bundle")
        service = Service(bundle, Store(f"sqlite:///{folder}/s.db"), deadline=10.0)
        app: FastAPI = create_app(service)
        add_events(app.router, service, None)  # type: ignore[arg-type]
        found = app.openapi()
        service.close()
    return {"openapi": found["openapi"], "info": found["info"], **_parts(found)}


def routes(found: dict[str, Any]) -> dict[str, Any]:
    """Path → methods, without those of the page and of the machine room."""
    return {
        path: methods
        for path, methods in found["paths"].items()
        if path.startswith("/v1/") and not path.startswith("/v1/page")
    }


def _parts(found: dict[str, Any]) -> dict[str, Any]:
    wanted, schemas = routes(found), found["components"]["schemas"]
    used: set[str] = set()
    _collect(wanted, schemas, used)
    kept = {name: schemas[name] for name in schemas if name in used}
    return {"paths": wanted, "components": {"schemas": _plain(kept)}}


def _collect(node: Any, schemas: dict[str, Any], used: set[str]) -> None:
    if isinstance(node, dict):
        name = str(node.get("$ref", "")).rpartition("/")[2]
        if name and name not in used:
            used.add(name)
            _collect(schemas[name], schemas, used)
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            _collect(each, schemas, used)


def _plain(node: Any) -> Any:
    """Without limits, which the service checks, and which types cannot say."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _plain(value)
        for key, value in node.items()
        if not (key in _LIMITS and not isinstance(value, dict | list))
        and not (key == "additionalProperties" and value is False)
    }


def made() -> str:
    """The text of the module."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "service.json", Path(folder) / "bodies.py"
        source.write_text(json.dumps(described()))
        subprocess.run(
            [
                sys.executable, "-W", "ignore", "-m", "datamodel_code_generator",
                "--input", str(source), "--input-file-type", "openapi", "--output", str(out),
                "--output-model-type", "typing.TypedDict", "--target-python-version", "3.11",
                "--use-standard-collections", "--use-union-operator", "--use-schema-description",
                "--enum-field-as-literal", "all", "--disable-timestamp", "--custom-file-header",
                _HEAD,
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        return out.read_text()


if __name__ == "__main__":
    TARGET.write_text(made())
