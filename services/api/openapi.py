"""The API's description at /openapi.json: what FastAPI cannot derive from the routes."""

import base64
import io
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from services.api.errors import DESCRIPTIONS, MEDIA_TYPE
from services.api.forms import ImageJson
from services.api.schemas import Problem
from services.api.upload import FIELD, FILES

OCTETS: Final = "application/octet-stream"
_BINARY: Final = {"type": "string", "format": "binary"}
_EXAMPLE: Final = Path(__file__).parent / "web/example.jpg"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer these statuses with a problem."""
    return {status: {"description": DESCRIPTIONS[status], "model": Problem} for status in statuses}


def binary(*media_types: str) -> dict[str, Any]:
    """The `content` of bytes that have one of these types."""
    return {media_type: {"schema": _BINARY} for media_type in media_types}


def image_body() -> dict[str, Any]:
    """The `openapi_extra` of a route that takes an image in one of three forms."""
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: _BINARY}}
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": ImageJson.model_json_schema()},
        **binary(OCTETS),  # or any other type: the format is detected from the bytes
    }
    return {"requestBody": {"required": True, "content": content}}


def batch_body() -> dict[str, Any]:
    """The `openapi_extra` of a route that takes a form of many images."""
    files = {"type": "array", "items": _BINARY, "minItems": 1}
    form = {"type": "object", "required": [FILES], "properties": {FILES: files}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def operation_id(route: APIRoute) -> str:
    """The name of the route's function: clients generate methods from it."""
    return route.name


def install(app: FastAPI, keyed: bool) -> None:
    """Complete the description of `app` when it is first asked for; `keyed`: whether the service has API keys."""
    derived = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(derived(), keyed)
        return derived()

    app.openapi = described  # type: ignore[method-assign] # as FastAPI documents it


def _complete(schema: dict[str, Any], keyed: bool) -> None:
    for operation in (operation for path in schema["paths"].values() for operation in path.values()):
        for status, response in operation["responses"].items():
            if int(status) >= 400:  # FastAPI describes every model as plain JSON
                response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}
        if "security" in operation and not keyed:
            operation["security"].append({})  # OpenAPI's way to say that it is optional
        json = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if json:
            json["example"] = {"image": example_data_uri()}


def example_data_uri() -> str:
    """A tiny photo with one smiling face (the astronaut of scikit-image, public domain) as a data URI."""
    from PIL import Image  # nothing else here needs it, and most services are never asked for their description

    with Image.open(_EXAMPLE) as photo:
        buffer = io.BytesIO()
        photo.resize((112, 112)).save(buffer, "JPEG", quality=60, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
