"""POST /predict, /predict/batch, /predict/annotated: images in, faces and their emotions out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import ClientDisconnect

from services.api.dependencies import ServiceDep, service_of
from services.api.errors import INTERNAL, answer_to, log_fault
from services.api.faults import InvalidParameter, PayloadTooLarge
from services.api.openapi import OCTETS, batch_body, binary, image_body, problems
from services.api.schemas import AnnotateQuery, BatchItem, BatchPrediction, ModelName, Prediction, PredictQuery, in_ms
from services.api.security import Authorized
from services.api.service import Image, Service
from services.api.upload import image_of, images_of, in_bytes
from shared.analyzer import Model, Options
from shared.annotate import ImageKind

T = TypeVar("T")
router = APIRouter(tags=["predict"], dependencies=[Authorized])

_DRAWN: Final = ("image/jpeg", "image/png", OCTETS)
_PROBLEMS: Final = problems(400, 401, 408, 413, 415, 422, 429, 500, 503, 504)


async def _options(request: Request, query: Annotated[PredictQuery, Query()]) -> Options:
    service = service_of(request)
    for name in request.query_params:
        if len(set(request.query_params.getlist(name))) > 1:
            raise InvalidParameter(f"{name} is given more than once, with different values.")
    options = query.options(service.defaults())
    service.check(options)  # before the image is read
    return options


async def _drawing(request: Request, query: Annotated[AnnotateQuery, Query()]) -> tuple[Options, bool]:
    return await _options(request, query), query.points


OptionsDep: TypeAlias = Annotated[Options, Depends(_options)]
DrawingDep: TypeAlias = Annotated[tuple[Options, bool], Depends(_drawing)]


@router.post(
    "/predict",
    summary="Faces and emotions in one image",
    response_model=Prediction,
    responses=_PROBLEMS,
    openapi_extra=image_body(),
)
async def predict(request: Request, service: ServiceDep, options: OptionsDep) -> Response:
    """Send the image as the multipart field `file`, as the raw body, or in base64 as JSON."""
    service.ready()
    async with image_of(request, service) as image:
        analysis = await cancel_on_disconnect(request, service.analyze(image, options))
    request.state.timings_ms = in_ms(analysis)
    # Serialized here: FastAPI would validate our own answer again.
    answer = Prediction.of(analysis, request.state.request_id).model_dump_json()
    return Response(answer, media_type="application/json")


@router.post(
    "/predict/batch",
    summary="Faces and emotions in many images",
    response_model=BatchPrediction,
    response_model_exclude_unset=True,
    responses=_PROBLEMS,
    openapi_extra=batch_body(),
)
async def predict_batch(request: Request, service: ServiceDep, options: OptionsDep) -> BatchPrediction:
    """Send the images as the repeated multipart field `files`. Each has its own status: a broken one affects no other."""
    service.ready()
    request_id = request.state.request_id
    # No more at once than there are workers: a batch must not crowd out other requests.
    gate = asyncio.Semaphore(service.workers.count)

    async def one(filename: str, data: bytes) -> tuple[BatchItem, Model | None]:
        async with gate:
            return await _batch_item(service, filename, data, options, request_id)

    async def all_of(files: list[tuple[str, bytes]]) -> tuple[list[BatchItem], Model]:
        results = await asyncio.gather(*(one(filename, data) for filename, data in files))
        served = service.ready().model
        for number, (_, model) in enumerate(results):
            if model not in (None, served):  # it was swapped meanwhile; one batch is answered by one model
                results[number] = await one(*files[number])
        return [item for item, _ in results], served

    async with images_of(request, service) as files:
        items, served = await cancel_on_disconnect(request, all_of(files))
    return BatchPrediction(request_id=request_id, model=ModelName.of(served), results=items)


@router.post(
    "/predict/annotated",
    summary="The image with its faces drawn on it",
    response_class=Response,
    responses={
        200: {"description": "The image at its full size.", "content": binary(*_DRAWN)},
        **_PROBLEMS,
    },
    openapi_extra=image_body(),
)
async def predict_annotated(request: Request, service: ServiceDep, drawing: DrawingDep) -> Response:
    """Send the image as to /predict. The answer is a JPEG, or a PNG if `Accept` names image/png.

    With `Accept: application/octet-stream` the JPEG has that type, for generated clients that know no image types.
    """
    service.ready()
    options, points = drawing
    accepted = request.headers.get("accept", "")
    kind: ImageKind = "png" if "image/png" in accepted else "jpeg"
    media_type = OCTETS if OCTETS in accepted else f"image/{kind}"
    async with image_of(request, service) as image:
        analysis, drawn = await cancel_on_disconnect(request, service.annotate(image, options, kind, points))
    request.state.timings_ms = in_ms(analysis)
    return Response(drawn, media_type=media_type)


async def _batch_item(
    service: Service, filename: str, data: bytes, options: Options, request_id: str
) -> tuple[BatchItem, Model | None]:
    """The answer to one file, and the model that gave it; none for an error."""
    limit = service.settings.max_upload_bytes
    try:
        if len(data) > limit:
            raise PayloadTooLarge(f"The file is {in_bytes(len(data))}; at most {in_bytes(limit)} are allowed.")
        analysis = await service.analyze(Image(data), options)
        return BatchItem.of(filename, analysis), analysis.model
    except Exception as error:  # whatever happens to one file, the others get their answers
        answer, detail = answer_to(error), str(error)
        service.telemetry.errors.labels(answer.code).inc()
        if answer is INTERNAL:
            log_fault(error, request_id)
            detail = "The service failed at this file."
        return BatchItem(filename=filename, status=answer.status, code=answer.code, detail=detail), None


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
