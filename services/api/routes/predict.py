"""POST /predict, /predict/batch, /predict/annotated: images in, faces and their emotions out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from services.api import replies
from services.api.counted import CountedResponse
from services.api.dependencies import service_of
from services.api.errors import INTERNAL, answer_to, log_fault
from services.api.faults import PayloadTooLarge
from services.api.openapi import OCTETS, batch_body, binary, image_body, problems
from services.api.routes.direct import DirectRoute
from services.api.schemas import AnnotateQuery, BatchPrediction, Prediction, PredictQuery
from services.api.security import Authorized
from services.api.service import Image, Service
from services.api.upload import image_of, images_of, in_bytes
from shared.analysis import Model, Options
from shared.pictures import ImageKind

T = TypeVar("T")
router = APIRouter(tags=["predict"], dependencies=[Authorized], route_class=DirectRoute)

_DRAWN: Final = ("image/jpeg", "image/png", OCTETS)
_PATIENCE_S: Final = 0.05  # most answers come sooner than a client may leave
_PROBLEMS: Final = problems(400, 401, 408, 413, 415, 422, 429, 500, 503, 504)


@router.post(
    "/predict",
    summary="Faces and emotions in one image",
    response_model=Prediction,
    responses=_PROBLEMS,
    openapi_extra=image_body(),
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
    """Send the image as the multipart field `file`, as the raw body, or in base64 as JSON."""
    service = service_of(request)
    options = service.options(query)
    with service.budget.holding() as held:
        image = await image_of(request, service, held)
        work = service.predict(image, options, request.state.request_id)
        done = await unless_disconnected(request, work)
    request.state.timings_ms = replies.in_ms(done.timings_s)
    return Response(done.body, media_type="application/json")


@router.post(
    "/predict/batch",
    summary="Faces and emotions in many images",
    response_model=BatchPrediction,
    responses=_PROBLEMS,
    openapi_extra=batch_body(),
)
async def predict_batch(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
    """Send the images as the repeated multipart field `files`. Each has its own status: a broken one affects no other."""
    service = service_of(request)
    options, request_id = service.options(query), request.state.request_id
    # No more at once than there are workers: a batch must not crowd out other requests.
    gate = asyncio.Semaphore(service.workers.count)

    async def one(filename: str, data: bytes) -> tuple[dict[str, Any], Model | None]:
        async with gate:
            return await _batch_item(service, filename, data, options, request_id)

    async def all_of(files: list[tuple[str, bytes]]) -> tuple[list[dict[str, Any]], Model]:
        results = await asyncio.gather(*(one(filename, data) for filename, data in files))
        served = service.ready().model
        for number, (_, model) in enumerate(results):
            if model not in (None, served):  # it was swapped meanwhile; one batch is answered by one model
                results[number] = await one(*files[number])
        return [item for item, _ in results], served

    with service.budget.holding() as held:
        files = await images_of(request, service, held)
        items, served = await unless_disconnected(request, all_of(files))
    answer = {"request_id": request_id, "model": replies.model(served), "results": items}
    return Response(to_json(answer), media_type="application/json")


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
async def predict_annotated(request: Request, query: Annotated[AnnotateQuery, Query()]) -> Response:
    """Send the image as to /predict. The answer is a JPEG, or a PNG if `Accept` names image/png.

    With `Accept: application/octet-stream` the JPEG has that type, for generated clients that know no image types.
    """
    service = service_of(request)
    options, accepted = service.options(query), request.headers.get("accept", "")
    kind: ImageKind = "png" if "image/png" in accepted else "jpeg"
    media_type = OCTETS if OCTETS in accepted else f"image/{kind}"
    with service.budget.holding() as held:
        image = await image_of(request, service, held)
        done = await unless_disconnected(request, service.annotate(image, options, kind, query.points))
    request.state.timings_ms = replies.in_ms(done.timings_s)
    return CountedResponse(done.body, media_type, service.budget)


async def _batch_item(
    service: Service, filename: str, data: bytes, options: Options, request_id: str
) -> tuple[dict[str, Any], Model | None]:
    """The answer to one file, a `BatchItem`, and the model that gave it; none for an error."""
    limit = service.settings.max_upload_bytes
    try:
        if len(data) > limit:
            raise PayloadTooLarge(f"The file is {in_bytes(len(data))}; at most {in_bytes(limit)} are allowed.")
        analysis = await service.analyze(Image(data), options)
        return {"filename": filename, "status": 200, **replies.faces(analysis)}, analysis.model
    except Exception as error:  # whatever happens to one file, the others get their answers
        answer, detail = answer_to(error), str(error)
        service.telemetry.errors.labels(answer.code).inc()
        if answer is INTERNAL:
            log_fault(error, request_id)
            detail = "The service failed at this file."
        return {"filename": filename, "status": answer.status, "code": answer.code, "detail": detail}, None


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client disconnects. Raises ClientDisconnect."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    watch: asyncio.Task[None] | None = None
    assert task is not None

    def begin_to_watch() -> None:
        nonlocal watch
        watch = loop.create_task(_cancel_on_disconnect(request, task))

    later = loop.call_later(_PATIENCE_S, begin_to_watch)
    try:
        return await work
    except asyncio.CancelledError:
        if watch is not None and watch.done() and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        later.cancel()
        if watch is not None:
            watch.cancel()


async def _cancel_on_disconnect(request: Request, task: "asyncio.Task[Any]") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()


PATHS: Final = tuple(route.path for route in router.routes if isinstance(route, DirectRoute))
