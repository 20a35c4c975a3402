"""POST /predict, /predict/batch, /predict/annotated: images in, faces and their emotions out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from services.api.errors import PayloadTooLarge, describe, log_fault
from services.api.routes.dependencies import ServiceDep
from services.api.routes.page import example_data_uri
from services.api.schemas import BatchItem, BatchPrediction, ModelName, Prediction, PredictQuery, Problem
from services.api.security import Authorized
from services.api.service import Service
from services.api.upload import FIELD, FILES, ImageJson, image_of, images_of
from shared.analyzer import Options
from shared.annotate import ImageKind

T = TypeVar("T")
router = APIRouter(tags=["predict"], dependencies=[Authorized])

_PROBLEM: Final[dict[str, Any]] = {"content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The image is cut short or corrupt, or the body is not what its type says.", **_PROBLEM},
    401: {"description": "No API key, where the service asks for one.", **_PROBLEM},
    408: {"description": "The body did not come on.", **_PROBLEM},
    413: {"description": "Too many bytes or pixels.", **_PROBLEM},
    415: {"description": "Not an image that we read; the detail lists those we do.", **_PROBLEM},
    422: {"description": "A parameter out of range, or no image in the request.", **_PROBLEM},
    500: {"description": "Our fault; the log has the request_id.", **_PROBLEM},
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
    openapi_extra=image_body(),
)
async def predict(request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]) -> Prediction:
    """Send the image as multipart field `file`, as the body itself, or as JSON in base64."""
    service.ready()
    async with image_of(request, service) as data:
        analysis = await unless_gone(request, service.analyze(data, _options(query, service)))
    request.state.timings_ms = {stage: round(seconds * 1000, 2) for stage, seconds in analysis.timings_s.items()}
    return Prediction.of(analysis, request.state.request_id)


@router.post(
    "/predict/batch",
    summary="Faces and emotions of many images",
    response_model=BatchPrediction,
    response_model_exclude_unset=True,
    responses=PROBLEMS,
    openapi_extra=_batch_body(),
)
async def predict_batch(
    request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]
) -> BatchPrediction:
    """Send the images as the repeated multipart field `files`. Each has its own status: a broken one spoils none."""
    service.ready()
    options, request_id = _options(query, service), request.state.request_id
    # No more at once than there are workers: a batch must not fill the queue before everybody else.
    gate = asyncio.Semaphore(service.workers.threads)

    async def one(filename: str, data: bytes) -> BatchItem:
        async with gate:
            return await _batch_item(service, filename, data, options, request_id)

    async with images_of(request, service) as files:
        results = await unless_gone(request, asyncio.gather(*(one(filename, data) for filename, data in files)))
    model = ModelName.of(service.ready().model)
    return BatchPrediction(request_id=request_id, model=model, results=results)


@router.post(
    "/predict/annotated",
    summary="The image back, with its faces drawn on it",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "The image at its full size."},
        **PROBLEMS,
    },
    openapi_extra=image_body(),
)
async def predict_annotated(request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]) -> Response:
    """Send the image as to /predict. The answer is a JPEG, or a PNG where `Accept` names image/png."""
    service.ready()
    kind: ImageKind = "png" if "image/png" in request.headers.get("accept", "") else "jpeg"
    async with image_of(request, service) as data:
        drawn = await unless_gone(request, service.annotate(data, _options(query, service), kind))
    return Response(drawn, media_type=f"image/{kind}")


async def _batch_item(service: Service, filename: str, data: bytes, options: Options, request_id: str) -> BatchItem:
    try:
        if len(data) > service.settings.max_upload_bytes:
            raise PayloadTooLarge(f"The file has more than {service.settings.max_upload_bytes:,} bytes.")
        return BatchItem.of(filename, await service.analyze(data, options))
    except Exception as error:  # whatever one file does, the others have their answers
        status, code = describe(error)
        service.telemetry.errors.labels(code).inc()
        if status == 500:
            log_fault(error, request_id)
            return BatchItem(filename=filename, status=status, code=code, detail="The service failed at this file.")
        return BatchItem(filename=filename, status=status, code=code, detail=str(error))


def _options(query: PredictQuery, service: Service) -> Options:
    return query.options(service.settings.max_faces, service.settings.min_confidence)


async def unless_gone(request: Request, work: "Coroutine[Any, Any, T] | asyncio.Future[T]") -> T:
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
