"""POST /predict: an image in, its faces and their emotions out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect

from services.api.routes.dependencies import ServiceDep
from services.api.routes.page import example_data_uri
from services.api.schemas import Prediction, PredictQuery, Problem
from services.api.security import Authorized
from services.api.upload import FIELD, ImageJson, read_image

T = TypeVar("T")
router = APIRouter(tags=["predict"])

_PROBLEM: Final[dict[str, Any]] = {"content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The image is cut short or corrupt, or the body is not what its type says.", **_PROBLEM},
    401: {"description": "No API key, where the service asks for one.", **_PROBLEM},
    413: {"description": "Too many bytes or pixels.", **_PROBLEM},
    415: {"description": "Not an image that we read; the detail lists those we do.", **_PROBLEM},
    422: {"description": "A parameter out of range, or no image in the request.", **_PROBLEM},
    503: {"description": "Too many images wait, or no model is ready; Retry-After says when to try again.", **_PROBLEM},
}


def image_body() -> dict[str, Any]:
    """The three forms of an image, for /docs; the JSON example works when tried there."""
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: binary}}
    json = {"schema": ImageJson.model_json_schema(), "example": {"image": example_data_uri()}}
    content = {"multipart/form-data": {"schema": form}, "application/json": json, "image/*": {"schema": binary}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/predict",
    summary="Faces and emotions of one image",
    response_model=Prediction,
    responses=PROBLEMS,
    dependencies=[Authorized],
    openapi_extra=image_body(),
)
async def predict(request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]) -> Prediction:
    """Send the image as multipart field `file`, as a raw `image/*` body, or as JSON in base64."""
    settings = service.settings
    manifest = service.ready().manifest
    data = await read_image(request, settings.max_upload_bytes)
    options = query.options(settings.max_faces, settings.min_confidence)
    analysis = await unless_gone(request, service.analyze(data, options))
    request.state.timings_ms = {stage: round(seconds * 1000, 2) for stage, seconds in analysis.timings_s.items()}
    return Prediction.of(analysis, manifest, request.state.request_id)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away: nobody would read the answer."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
