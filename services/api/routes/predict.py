"""POST /predict, /predict/batch, /predict/annotated: images in, faces and their emotions out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from services.api.errors import PayloadTooLarge, describe
from services.api.routes.dependencies import ServiceDep
from services.api.routes.page import example_data_uri
from services.api.schemas import BatchItem, BatchPrediction, ModelName, Prediction, PredictQuery, Problem
from services.api.security import Authorized
from services.api.upload import FIELD, FILES, ImageJson, read_image, read_images
from shared.errors import MienError

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


def _batch_body() -> dict[str, Any]:
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"type": "object", "required": [FILES], "properties": {FILES: files}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


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


@router.post(
    "/predict/batch",
    summary="Faces and emotions of many images",
    response_model=BatchPrediction,
    response_model_exclude_none=True,
    responses=PROBLEMS,
    dependencies=[Authorized],
    openapi_extra=_batch_body(),
)
async def predict_batch(
    request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]
) -> BatchPrediction:
    """Send the images as the repeated multipart field `files`. Each has its own status: one that is broken spoils none."""
    settings = service.settings
    manifest = service.ready().manifest
    files = await read_images(request, 4 * settings.max_upload_bytes, settings.max_batch_files)
    options = query.options(settings.max_faces, settings.min_confidence)

    async def one(filename: str, data: bytes) -> BatchItem:
        try:
            if len(data) > settings.max_upload_bytes:
                raise PayloadTooLarge(
                    f"The image is larger than {settings.max_upload_bytes:,} bytes. Send a smaller one."
                )
            return BatchItem.of(filename, await service.analyze(data, options))
        except MienError as error:
            status, code = describe(error)
            return BatchItem(filename=filename, status=status, code=code, detail=str(error))

    async def in_turn() -> list[BatchItem]:
        # No more at once than there are workers: a batch must not fill the queue before everybody else.
        gate = asyncio.Semaphore(service.workers.threads)

        async def admitted(filename: str, data: bytes) -> BatchItem:
            async with gate:
                return await one(filename, data)

        return await asyncio.gather(*(admitted(filename, data) for filename, data in files))

    results = await unless_gone(request, in_turn())
    name = ModelName(name=manifest.name, version=manifest.version)
    return BatchPrediction(request_id=request.state.request_id, model=name, results=results)


@router.post(
    "/predict/annotated",
    summary="The image back, with its faces drawn on it",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The image at its full size."}, **PROBLEMS},
    dependencies=[Authorized],
    openapi_extra=image_body(),
)
async def predict_annotated(request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]) -> Response:
    """Send the image as to /predict; boxes, emotions and probabilities are drawn on it."""
    settings = service.settings
    data = await read_image(request, settings.max_upload_bytes)
    options = query.options(settings.max_faces, settings.min_confidence)
    return Response(await unless_gone(request, service.annotate(data, options)), media_type="image/png")


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
