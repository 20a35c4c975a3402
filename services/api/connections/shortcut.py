"""A way past the application for small requests for one image: its layers cost as much as the rest of HTTP."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Request
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from services.api import replies
from services.api.errors import problem_of, stopping
from services.api.jobs import Done
from services.api.middleware import CLIENT_CLOSED_REQUEST, record, request_id
from services.api.routes.direct import parsed
from services.api.schemas import PredictQuery
from services.api.security import authorize
from services.api.service import Service
from services.api.upload import image_in

Headers = Sequence[tuple[bytes, bytes]]
_PATH: Final = "/predict"
# Requests with these headers need the application, or might be read differently by it.
_ITS_OWN: Final = {b"origin", b"transfer-encoding", b"content-encoding"}


@dataclass(slots=True, eq=False)
class Whole:
    """A request that has arrived whole. To uvicorn's protocol it looks like its own cycle of request and answer."""

    url: bytes
    headers: Headers
    body: bytes
    since: float  # of time.monotonic()
    send: Callable[[int, Headers, bytes], None]
    task: "asyncio.Task[None] | None" = None
    keep_alive: bool = True
    disconnected: bool = False
    response_started: bool = False
    response_complete: bool = False
    message_event: asyncio.Event = field(default_factory=asyncio.Event)

    def leave(self) -> None:
        """The client has gone."""
        self.disconnected = True
        if self.task is not None:
            self.task.cancel()


class Shortcut:
    """Answers requests as the application does.

    Large ones and those from pages of other origins are left to it, and all of them where rates are limited or traces
    are collected.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._most = min(HIGH_WATER_LIMIT, service.settings.max_upload_bytes)

    def takes(self, url: bytes, headers: Headers) -> bool:
        """Whether a POST can be answered here, once its body has arrived."""
        service, (path, _, query) = self._service, url.partition(b"?")
        if path != _PATH.encode() or b"#" in query or service.draining:
            return False
        if service.rates.limited or service.telemetry.traced:
            return False
        size = b""
        for name, value in headers:
            if name == b"content-length":
                size = value
            elif name in _ITS_OWN:
                return False
        return size.isdigit() and 0 < int(size) <= self._most

    async def answer(self, whole: Whole) -> None:
        """Answer, count and log a request. Its `send` gets status, headers and body, unless the client has left."""
        state: dict[str, Any] = {"request_id": request_id(whole.headers), "route": _PATH}
        scope: Scope = {"type": "http", "method": "POST", "path": _PATH, "headers": whole.headers, "state": state}
        status, telemetry = 500, self._service.telemetry
        telemetry.in_flight.inc()
        try:
            status = await self._answer(whole, scope)
        finally:
            telemetry.in_flight.dec()
            record(telemetry, scope, status, time.monotonic() - whole.since)

    async def _answer(self, whole: Whole, scope: Scope) -> int:
        try:
            done = await self._predict(whole, scope)
        except asyncio.CancelledError:
            if whole.disconnected:
                return CLIENT_CLOSED_REQUEST
            if not self._service.draining:
                raise
            response = stopping(Request(scope))
        except Exception as error:
            response = problem_of(Request(scope), error)
        else:
            scope["state"]["timings_ms"] = replies.in_ms(done.timings_s)
            headers = ((b"content-length", b"%d" % len(done.body)), (b"content-type", b"application/json"))
            return self._send(whole, scope, 200, headers, done.body)
        return self._send(whole, scope, response.status_code, response.raw_headers, bytes(response.body))

    def _send(self, whole: Whole, scope: Scope, status: int, headers: Headers, body: bytes) -> int:
        if self._service.draining:  # otherwise the connection would close during the client's next request
            whole.keep_alive = False
        others = [pair for pair in headers if pair[0] != b"x-request-id"]
        whole.send(status, [*others, (b"x-request-id", scope["state"]["request_id"].encode())], body)
        return status

    async def _predict(self, whole: Whole, scope: Scope) -> Done:
        service = self._service
        if service.keys:
            authorize(service, Request(scope))
        query = parsed(PredictQuery, whole.url.partition(b"?")[2])
        assert isinstance(query, PredictQuery)
        options = service.options(query)
        content_type = next((value for name, value in whole.headers if name == b"content-type"), b"").decode("latin-1")
        with service.budget.holding() as held:
            held.grow(len(whole.body))
            image = image_in(whole.body, content_type, service.settings.max_upload_bytes)
            return await service.predict(image, options, scope["state"]["request_id"])
