"""Around every request: its id, its time, its line in the log and its place in the metrics."""

import logging
import re
import time
import uuid
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.telemetry import Telemetry

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
UNMATCHED: Final = "unmatched"  # unknown paths share one label
_logger = logging.getLogger("mien.access")


class RequestContext:
    """Gives each request an id, echoes it, and records how the request ended."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app, self._telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = _request_id(Request(scope))
        status, started = 500, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(k, v) for k, v in message["headers"] if k.lower() != b"x-request-id"]
                message["headers"] = [*headers, (b"x-request-id", state["request_id"].encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = 499  # as nginx calls it: nobody was there to be answered
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["state"].get("route") or getattr(scope.get("route"), "path", UNMATCHED)
        self._telemetry.requests.labels(route, scope["method"], str(status)).inc()
        self._telemetry.request_seconds.labels(route, scope["method"]).observe(seconds)
        if status >= 400:
            self._telemetry.errors.labels(
                scope["state"].get("error_code", "disconnected" if status == 499 else "internal")
            ).inc()
        _logger.info(
            "%s %s %d %.1f ms %s", scope["method"], scope["path"], status, seconds * 1000, scope["state"]["request_id"]
        )


def _request_id(request: Request) -> str:
    """The client's own id where it is sane, a fresh one otherwise."""
    given = request.headers.get("x-request-id", "")
    return given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
