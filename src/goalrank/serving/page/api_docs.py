"""Page `/docs`: the routes of the API as plain HTML, without scripts."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI, Response

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#8882;padding:.1em .3em}td,th{text-align:left;padding:.2em .8em .2em 0}"
)


def add_api_docs(app: FastAPI) -> None:
    """Add the page.

    Args:
        app: the application that it describes.
    """

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return Response(_page(app.openapi()), headers=_HEADERS, media_type="text/html")


def _page(api: dict[str, Any]) -> str:
    routes = [
        _route(method, path, route)
        for path, methods in api["paths"].items()
        for method, route in methods.items()
    ]
    schemas = [_schema(n, s) for n, s in api.get("components", {}).get("schemas", {}).items()]
    title = f"{escape(api['info']['title'])} {escape(api['info']['version'])}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1><p>For machines: "
        f'<a href="/openapi.json">openapi.json</a>.</p>{"".join(routes)}<h2>Bodies</h2>'
        f"{''.join(schemas)}</html>"
    )


def _route(method: str, path: str, route: dict[str, Any]) -> str:
    answers = "".join(
        f"<tr><td>{escape(status)}<td>{escape(answer.get('description', ''))}"
        for status, answer in route["responses"].items()
    )
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    takes = _kind(body.get("schema", {}))
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(route.get('description', ''))}</p>"
        f"{f'<p>Body: {takes}</p>' if body else ''}<table>{answers}</table>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code><td>{_kind(each)}"
        for field, each in schema.get("properties", {}).items()
    )
    text = escape(schema.get("description", "")).replace("\n", "<br>")
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{text}</p><table>{rows}</table>'


def _kind(schema: dict[str, Any]) -> str:
    """Type of a value in words, with a link to a schema that has a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(_kind(each) for each in schema[word])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return escape(str(schema.get("type", "any value")))
