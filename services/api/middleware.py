"""Around every request: its id, its duration, its log line, its metrics, and an answer to unexpected errors."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import MEDIA_TYPE, problem_of, problem_of_status, stopping
from services.api.logs import ACCESS
from services.api.telemetry import Telemetry

_VALID_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS: Final = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
UNMATCHED: Final = "unmatched"  # unknown paths share one label
CLIENT_CLOSED_REQUEST: Final = 499  # nginx's status for a client that left before the answer
_logger = logging.getLogger(ACCESS)


class RequestContext:
    """Gives each request an id, returns it, and records how the request ended."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, draining: Callable[[], bool]) -> None:
        self._app, self._telemetry, self._draining = app, telemetry, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = request_id(scope["headers"])
        status, started = 500, time.perf_counter()
        self._telemetry.in_flight.inc()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(k, v) for k, v in message["headers"] if k.lower() != b"x-request-id"]
                message["headers"] = [*headers, (b"x-request-id", state["request_id"].encode())]
                if self._draining():  # or the connection would be closed in the middle of the next request
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        finally:
            self._telemetry.in_flight.dec()
            record(self._telemetry, scope, status, time.perf_counter() - started)


def record(telemetry: Telemetry, scope: Scope, status: int, seconds: float) -> None:
    """Count a request that has ended, and log it."""
    state, method = scope["state"], scope["method"] if scope["method"] in _METHODS else "other"
    route = state.get("route") or getattr(scope.get("route"), "path", UNMATCHED)
    telemetry.answered(route, method, status, seconds)
    code = state.get("error_code") or ("disconnected" if status == CLIENT_CLOSED_REQUEST else "internal")
    if status >= 400:
        telemetry.refused(code)
    if not _logger.isEnabledFor(logging.INFO):
        return
    details = {
        "request_id": state["request_id"],
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        **({"code": code} if status >= 400 else {}),
        **({"timings_ms": state["timings_ms"]} if "timings_ms" in state else {}),
    }
    # Quoted again: a path may contain line breaks and terminal control characters.
    _logger.info("%s %s", scope["method"], quote(scope["path"]), extra=details)


class ProblemsOnly:
    """Answers errors that libraries word themselves (refused preflights, odd ranges) with a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= 400 and not _is_problem(message):
                replaced = True
                # The library's own headers stay, such as Content-Range, Allow and those of CORS.
                headers = {
                    name.decode("latin-1"): value.decode("latin-1")
                    for name, value in message["headers"]
                    if name.lower() not in (b"content-type", b"content-length")
                }
                await problem_of_status(Request(scope), message["status"], headers)(scope, receive, send)
            elif not replaced:
                await send(message)

        await self._app(scope, receive, send_problem)


def _is_problem(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(MEDIA_TYPE.encode()) for name, value in message["headers"]
    )


class CatchAll:
    """Answers errors, and the end of the service, with a problem; logs those that we did not expect, with their ids."""

    def __init__(self, app: ASGIApp, stopping: Callable[[], bool] = lambda: False) -> None:
        self._app, self._stopping = app, stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_answer = False

        async def watched(message: Message) -> None:
            nonlocal started_answer
            started_answer = started_answer or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            raise
        except asyncio.CancelledError:
            if started_answer or not self._stopping():
                raise
            # The stop has waited long enough: requests still waiting are told so.
            response = stopping(Request(scope))
            await response(scope, receive, send)
        except Exception as error:
            response = problem_of(Request(scope), error)
            if started_answer:  # too late for a problem: close the connection
                raise
            await response(scope, receive, send)


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id of a request with these headers: the client's own if it is valid, a new one otherwise."""
    for name, value in headers:
        if name == b"x-request-id":
            given = str(value, "latin-1")
            return given if _VALID_ID.fullmatch(given) else os.urandom(16).hex()
    return os.urandom(16).hex()
