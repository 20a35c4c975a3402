"""Every error that a client can see, and the one handler that tells it (RFC 9457).

    MienError
    ├── ImageError, ModelError, …     raised by the pipeline, see shared/errors.py
    └── ServiceError                  raised by the service
        ├── BadForm              400  a body that is not what its Content-Type says
        ├── Unauthorized         401  no API key, or not one of ours
        ├── SlowUpload           408  the body did not come on
        ├── PayloadTooLarge      413  more bytes than the limit
        ├── UnsupportedForm      415  a Content-Type that carries no image for us
        ├── MissingImage         422  a form without the field, JSON without the key
        ├── NotReady             503  no model can be served
        └── Overloaded           503  the queue is full; Retry-After says when

Nothing else in the project knows HTTP status codes. A client never gets a traceback.
"""

import logging
from http import HTTPStatus
from typing import Any, ClassVar, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.errors import ImageTooLarge, ImageTooSmall, MienError, UndecodableImage, UnsupportedImage

MEDIA_TYPE: Final = "application/problem+json"
_logger = logging.getLogger(__name__)


class ServiceError(MienError):
    """The request cannot be served; each kind has its status and code."""

    status: ClassVar[int]
    code: ClassVar[str]
    retry_after_s: ClassVar[int | None] = None


class BadForm(ServiceError):
    """The body is not what its Content-Type says."""

    status, code = 400, "bad_form"


class Unauthorized(ServiceError):
    """No API key, or not one of ours."""

    status, code = 401, "unauthorized"


class SlowUpload(ServiceError):
    """The body did not come on."""

    status, code = 408, "slow_upload"


class PayloadTooLarge(ServiceError):
    """More bytes than the limit."""

    status, code = 413, "payload_too_large"


class UnsupportedForm(ServiceError):
    """A Content-Type that carries no image for us."""

    status, code = 415, "unsupported_form"


class MissingImage(ServiceError):
    """A form without the field, or JSON without the key."""

    status, code = 422, "missing_image"


class NotReady(ServiceError):
    """No model can be served, for the reason that the message gives."""

    status, code, retry_after_s = 503, "not_ready", 5


class Overloaded(ServiceError):
    """As many images wait as may."""

    status, code, retry_after_s = 503, "overloaded", 1


_IMAGE_ERRORS: Final[dict[type[Exception], tuple[int, str]]] = {
    UndecodableImage: (400, "undecodable_image"),
    ImageTooLarge: (413, "image_too_large"),
    UnsupportedImage: (415, "unsupported_image"),
    ImageTooSmall: (422, "image_too_small"),
}


def describe(error: Exception) -> tuple[int, str]:
    """The status and code of an error; 500 for one that is our own fault."""
    if isinstance(error, ServiceError):
        return error.status, error.code
    return _IMAGE_ERRORS.get(type(error), (500, "internal"))


def problem(
    request: Request, status: int, code: str, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An application/problem+json response."""
    request.state.error_code = code
    request_id = getattr(request.state, "request_id", "")
    content: dict[str, Any] = {
        "type": f"urn:mien:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    return JSONResponse(content, status, {"X-Request-ID": request_id, **(headers or {})}, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of `app` be answered as a problem; middleware.LastResort does so with what nobody foresaw."""
    app.add_exception_handler(MienError, _foreseen)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def unforeseen(request: Request, error: Exception) -> JSONResponse:
    """The answer to our own fault; what it was stands in the log beside the request's id."""
    log_fault(error, getattr(request.state, "request_id", ""))
    return problem(request, 500, "internal", "The service failed at this request; its log has the request_id.")


def log_fault(error: Exception, request_id: str) -> None:
    """Log an error that is our own fault, with everything that helps to find it."""
    _logger.error("request failed", exc_info=error, extra={"request_id": request_id})


async def _foreseen(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MienError)
    status, code = describe(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return unforeseen(request, error)
    headers = {}
    if isinstance(error, ServiceError) and error.retry_after_s:
        headers["Retry-After"] = str(error.retry_after_s)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(request, status, code, str(error), headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(fault) for fault in error.errors()]
    if any(fault["type"] == "extra_forbidden" for fault in error.errors()):
        faults.append("there are detect (true or false), max_faces and min_confidence")
    return problem(request, 422, "invalid_parameter", "; ".join(faults) + ".")


def _fault(fault: dict[str, Any]) -> str:
    """One wrong parameter in words."""
    name, kind = ".".join(map(str, fault["loc"][1:])), fault["type"]
    if kind == "extra_forbidden":
        return f"{name} is no parameter"
    if kind == "bool_parsing":
        return f"{name} is true or false, not '{fault['input']}'"
    return f"{name}: {fault['msg']} (given: {fault['input']})"


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status, phrase = error.status_code, HTTPStatus(error.status_code).phrase
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if status == HTTPStatus.NOT_FOUND and detail == phrase:
        detail = "There is nothing at this path; /docs lists what there is. /stream is a WebSocket."
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"This path does not take {request.method}; it takes {headers.get('Allow', 'another method')}."
    return problem(request, status, phrase.lower().replace(" ", "_"), detail, headers)
