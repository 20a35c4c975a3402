"""POST /predict, /predict/batch, /predict/annotated: images in, faces and their emotions out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from services.api.dependencies import ServiceDep
from services.api.errors import INTERNAL, answer_to, log_fault
from services.api.faults import PayloadTooLarge
from services.api.openapi import batch_body, image_body, problems
from services.api.schemas import BatchItem, BatchPrediction, ModelName, Prediction, PredictQuery
from services.api.security import Authorized
from services.api.service import Service
from services.api.upload import image_of, images_of
from shared.analyzer import Analyzer, Options
from shared.annotate import ImageKind

T = TypeVar("T")
router = APIRouter(tags=["predict"], dependencies=[Authorized])

_PROBLEMS: Final = problems(400, 401, 408, 413, 415, 422, 500, 503)


@router.post(
    "/predict",
    summary="Faces and emotions in one image",
    response_model=Prediction,
    responses=_PROBLEMS,
    openapi_extra=image_body(),
)
async def predict(request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]) -> Prediction:
    """Send the image as the multipart field `file`, as the raw body, or in base64 as JSON."""
    service.ready()
    async with image_of(request, service) as data:
        analysis = await cancel_on_disconnect(request, service.analyze(data, _options(query, service)))
    request.state.timings_ms = {stage: round(seconds * 1000, 2) for stage, seconds in analysis.timings_s.items()}
    return Prediction.of(analysis, request.state.request_id)


@router.post(
    "/predict/batch",
    summary="Faces and emotions in many images",
    response_model=BatchPrediction,
    response_model_exclude_unset=True,
    responses=_PROBLEMS,
    openapi_extra=batch_body(),
)
async def predict_batch(
    request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]
) -> BatchPrediction:
    """Send the images as the repeated multipart field `files`. Each has its own status: a broken one affects no other."""
    analyzer = service.ready()  # one model for the whole batch, also when it is swapped meanwhile
    options, request_id = _options(query, service), request.state.request_id
    # No more at once than there are workers: a batch must not crowd out other requests.
    gate = asyncio.Semaphore(service.workers.threads)

    async def one(filename: str, data: bytes) -> BatchItem:
        async with gate:
            return await _batch_item(service, analyzer, filename, data, options, request_id)

    async with images_of(request, service) as files:
        results = await cancel_on_disconnect(
            request, asyncio.gather(*(one(filename, data) for filename, data in files))
        )
    return BatchPrediction(request_id=request_id, model=ModelName.of(analyzer.model), results=results)


@router.post(
    "/predict/annotated",
    summary="The image with its faces drawn on it",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "The image at its full size."},
        **_PROBLEMS,
    },
    openapi_extra=image_body(),
)
async def predict_annotated(request: Request, service: ServiceDep, query: Annotated[PredictQuery, Query()]) -> Response:
    """Send the image as to /predict. The answer is a JPEG, or a PNG if `Accept` names image/png."""
    service.ready()
    kind: ImageKind = "png" if "image/png" in request.headers.get("accept", "") else "jpeg"
    async with image_of(request, service) as data:
        drawn = await cancel_on_disconnect(request, service.annotate(data, _options(query, service), kind))
    return Response(drawn, media_type=f"image/{kind}")


async def _batch_item(
    service: Service, analyzer: Analyzer, filename: str, data: bytes, options: Options, request_id: str
) -> BatchItem:
    limit = service.settings.max_upload_bytes
    try:
        if len(data) > limit:
            raise PayloadTooLarge(f"The limit is {limit:,} bytes per file; this one has {len(data):,}.")
        return BatchItem.of(filename, await service.analyze(data, options, analyzer))
    except Exception as error:  # whatever happens to one file, the others get their answers
        answer, detail = answer_to(error), str(error)
        service.telemetry.errors.labels(answer.code).inc()
        if answer is INTERNAL:
            log_fault(error, request_id)
            detail = "The service failed at this file."
        return BatchItem(filename=filename, status=answer.status, code=answer.code, detail=detail)


def _options(query: PredictQuery, service: Service) -> Options:
    return query.options(service.settings.max_faces, service.settings.min_confidence)


async def cancel_on_disconnect(request: Request, work: "Coroutine[Any, Any, T] | asyncio.Future[T]") -> T:
    """The result of `work`, which is cancelled when the client disconnects. Raises ClientDisconnect."""
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        disconnected.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
