"""Maps every fault to what a client sees: status, code and application/problem+json (RFC 9457).

Nothing else in the project knows HTTP status codes. A client never gets a traceback.
"""

import logging
import re
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from services.api.faults import (
    BadForm,
    InvalidForm,
    InvalidParameter,
    MissingImage,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    SlowUpload,
    TimedOut,
    Unauthorized,
    UnsupportedForm,
)
from services.api.schemas import PredictQuery
from shared.errors import (
    ImageTooLarge,
    ImageTooSmall,
    MienError,
    OutOfMemory,
    UndecodableImage,
    UnknownAnswer,
    UnsupportedImage,
    UnusablePrior,
)

MEDIA_TYPE: Final = "application/problem+json"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a kind of fault is answered."""

    status: int
    code: str
    retry_after_s: int | None = None


INTERNAL: Final = Answer(500, "internal")
# A fault is answered by its own class, or else by the nearest class that it derives from.
_ANSWERS: Final[dict[type, Answer]] = {
    UndecodableImage: Answer(400, "undecodable_image"),
    BadForm: Answer(400, "bad_form"),
    Unauthorized: Answer(401, "unauthorized"),
    SlowUpload: Answer(408, "slow_upload"),
    PayloadTooLarge: Answer(413, "payload_too_large"),
    ImageTooLarge: Answer(413, "image_too_large"),
    UnsupportedForm: Answer(415, "unsupported_form"),
    UnsupportedImage: Answer(415, "unsupported_image"),
    MissingImage: Answer(422, "missing_image"),
    UnknownAnswer: Answer(422, "unknown_answer"),
    UnusablePrior: Answer(422, "unusable_prior"),
    InvalidForm: Answer(422, "invalid_form"),
    InvalidParameter: Answer(422, "invalid_parameter"),
    ImageTooSmall: Answer(422, "image_too_small"),
    RateLimited: Answer(429, "rate_limited", retry_after_s=1),
    NotReady: Answer(503, "not_ready", retry_after_s=5),
    OutOfMemory: Answer(503, "out_of_memory", retry_after_s=5),
    Overloaded: Answer(503, "overloaded", retry_after_s=1),
    TimedOut: Answer(504, "timeout"),
}
DESCRIPTIONS: Final = {
    400: "The image is truncated or corrupt, or the body does not match its Content-Type.",
    401: "The API key is missing or wrong.",
    408: "The upload stalled.",
    413: "Too many bytes or pixels.",
    415: "Not a supported image format; the detail lists those that are.",
    422: "A parameter is invalid, or the request has no image.",
    429: "More requests than allowed; Retry-After says when to try again.",
    500: "The service failed; its log has the request_id.",
    503: "The service is overloaded or not ready; Retry-After says when to try again.",
    504: "The image was not done in time.",
}


def answer_to(error: BaseException) -> Answer:
    """How `error` is answered; INTERNAL for a fault of the service itself."""
    return next((_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS), INTERNAL)


def problem(
    request: Request, status: int, code: str, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An application/problem+json response."""
    request.state.error_code = code
    request_id = getattr(request.state, "request_id", "")
    content = _content(status, code, detail, request_id)
    return JSONResponse(content, status, {"X-Request-ID": request_id, **(headers or {})}, MEDIA_TYPE)


def raw_problem(status: int, code: str, detail: str, request_id: str = "", keep: bool = False) -> bytes:
    """The same as the bytes of a whole answer, where the application has no part; unless `keep`, it ends the connection."""
    request_id = request_id or uuid.uuid4().hex
    body = to_json(_content(status, code, detail, request_id))
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {MEDIA_TYPE}\r\nX-Request-ID: {request_id}\r\n"
    )
    retry = "Retry-After: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    end = "" if keep else "Connection: close\r\n"
    return f"{head}{retry}Content-Length: {len(body)}\r\n{end}\r\n".encode() + body


def problem_of_status(request: Request, status: int, headers: dict[str, str]) -> JSONResponse:
    """The problem for an error that a library has answered in its own words."""
    phrase = HTTPStatus(status).phrase
    return problem(request, status, _code_of(status), f"{phrase}.", headers)


def _content(status: int, code: str, detail: str, request_id: str) -> dict[str, Any]:
    return {
        "type": f"urn:mien:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }


def _code_of(status: int) -> str:
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # Python's name for it depends on its version
        return "range_not_satisfiable"
    return re.sub("[^a-z]+", "_", HTTPStatus(status).phrase.lower())


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem; middleware.CatchAll does so for unexpected ones."""

    async def answered(request: Request, error: Exception) -> JSONResponse:
        return problem_of(request, error)

    for kind in (MienError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answered)


def problem_of(request: Request, error: Exception) -> JSONResponse:
    """The answer to any error; those that we did not expect are logged."""
    if isinstance(error, MienError):
        return _expected(request, error)
    if isinstance(error, RequestValidationError):
        return _invalid(request, error)
    if isinstance(error, HTTPException):
        return _http(request, error)
    return _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """The answer to a fault of the service itself; the log has the details under the request's id."""
    log_fault(error, getattr(request.state, "request_id", ""))
    return problem(request, INTERNAL.status, INTERNAL.code, "The service failed; its log has the request_id.")


def stopping(request: Request) -> JSONResponse:
    """The answer to a request that the stop cut short."""
    answer = _ANSWERS[NotReady]
    headers = {"Retry-After": str(answer.retry_after_s)}
    return problem(request, answer.status, answer.code, "The service is stopping.", headers)


def log_fault(error: Exception, request_id: str) -> None:
    """Log a fault of the service itself, with its traceback."""
    _logger.error("request failed", exc_info=error, extra={"request_id": request_id})


def _expected(request: Request, error: MienError) -> JSONResponse:
    answer = answer_to(error)
    if answer is INTERNAL:
        return _unexpected(request, error)
    headers = {}
    if answer.retry_after_s:
        headers["Retry-After"] = str(getattr(error, "retry_after_s", answer.retry_after_s))
    if answer.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(request, answer.status, answer.code, str(error), headers)


def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    faults = [_fault(fault) for fault in error.errors()]
    if any(fault["type"] == "extra_forbidden" for fault in error.errors()):
        faults.append(f"the parameters are {', '.join(sorted(PredictQuery.model_fields))}")
    return problem(request, 422, "invalid_parameter", "; ".join(faults) + ".")


def _fault(fault: dict[str, Any]) -> str:
    """One invalid parameter in words."""
    name, kind = ".".join(map(str, fault["loc"][1:])), fault["type"]
    if kind == "extra_forbidden":
        return f"{name} is not a parameter"
    if kind == "bool_parsing":
        return f"{name} must be true or false, not '{fault['input']}'"
    return f"{name}: {fault['msg']} (given: {fault['input']})"


def _http(request: Request, error: HTTPException) -> JSONResponse:
    status, phrase = error.status_code, HTTPStatus(error.status_code).phrase
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if status == HTTPStatus.NOT_FOUND and detail == phrase:
        detail = "There is nothing at this path; see /docs. /stream is a WebSocket."
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"This path does not accept {request.method}; use {headers.get('Allow', 'another method')}."
    return problem(request, status, _code_of(status), detail, headers)
