"""The OpenAPI document: what FastAPI gathers, with the one error form and the ways to authenticate."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .auth import PUBLIC
from .naming import shorten

_STATUS = {
    "type": "object",
    "title": "Status",
    "description": "google.rpc.Status: what went wrong, and to which field",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "google.rpc.Code"},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["@type"],
                "properties": {
                    "@type": {"type": "string"},
                    "fieldViolations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                        },
                    },
                    "reason": {"type": "string"},
                    "domain": {"type": "string"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                    "requestId": {"type": "string"},
                },
            },
        },
    },
}
_REFUSALS = {
    "400": "a field is wrong, or it does not go with the state",
    "401": "no credentials, or none that are good",
    "403": "no right to it",
    "404": "there is no such object",
    "405": "the path does not take that method",
    "408": "the body did not come in time",
    "409": "it exists already, or the Idempotency-Key was used for something else",
    "413": "the body is too large",
    "429": "too many requests; Retry-After says when to come again",
    "500": "the server failed",
    "503": "the ledger or a store is too busy",
    "504": "the answer took too long",
}
_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API token"},
    "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "an API token"},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": 'hmac accesskey="AK", algorithm="hmac-sha256", headers="x-date", signature="…" with X-Date',
    },
}
_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})


def document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _make(app)
    return app.openapi_schema


def query_parameters(app: FastAPI, path: str, method: str) -> dict[str, bool]:
    """The query parameters of an operation, and whether each may come more than once."""
    operation = document(app)["paths"].get(path, {}).get(method.lower(), {})
    given = [one for one in operation.get("parameters", ()) if one["in"] == "query"]
    return {one["name"]: _is_list(one["schema"]) for one in given}


def _is_list(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "array" or any(_is_list(one) for one in schema.get("anyOf", ()))


def _make(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    parts = made.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Status"] = _STATUS
    parts["securitySchemes"] = _SCHEMES
    for path, item in made.get("paths", {}).items():
        for method, operation in item.items():
            if method in _METHODS:
                _complete(operation, public=path in PUBLIC)
    shorten(made)
    made["security"] = [{name: []} for name in _SCHEMES]
    return made


def _complete(operation: dict[str, Any], *, public: bool) -> None:
    answers = operation.setdefault("responses", {})
    answers.pop("422", None)
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}
    for status, text in _REFUSALS.items():
        answers.setdefault(status, {"description": text, "content": problem})
    if public:
        operation["security"] = []
