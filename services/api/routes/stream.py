"""WS /stream: video frames in, faces with identities out. docs/api.md describes the protocol."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from services.api import replies
from services.api.budget import Budget
from services.api.dependencies import ServiceDep
from services.api.errors import log_fault
from services.api.faults import Overloaded, RateLimited
from services.api.security import Access, access, is_key, origin_allowed, presented_key
from services.api.service import Service
from services.api.streaming import messages
from services.api.streaming.session import Close, Session, SessionEnded
from shared.emotions import EMOTIONS

router = APIRouter()
_AUTHENTICATE_TIMEOUT_S: Final = 5.0
_CLOSE_TIMEOUT_S: Final = 2.0
_MAX_REASON_BYTES: Final = 123  # RFC 6455
_logger = logging.getLogger("mien.access")


@router.websocket("/stream")
async def stream(websocket: WebSocket, service: ServiceDep) -> None:
    """One session, from the handshake to the close and its reason."""
    subprotocols = websocket.scope.get("subprotocols", [])
    await websocket.accept(messages.SUBPROTOCOL if messages.SUBPROTOCOL in subprotocols else None)
    connection, started = _Connection(websocket), time.monotonic()
    request_id, end = uuid.uuid4().hex, SessionEnded(None)
    try:
        with connection.holding(service.budget):
            await _admit(websocket, connection, service)
            _check_capacity(service)
            with service.session():
                await _serve(connection, service)
    except SessionEnded as error:
        end = error
    except Exception as error:
        end = SessionEnded(Close.INTERNAL, "The service failed.")
        end.__cause__ = error
    if end.code is Close.INTERNAL:
        service.telemetry.errors.labels("internal").inc()
        log_fault(end, request_id)
    if end.code is not None:
        await connection.close(end.code, end.reason)
    details: dict[str, Any] = {"request_id": request_id, "duration_ms": round((time.monotonic() - started) * 1000)}
    if end.code is not None:
        details |= {"code": int(end.code), "reason": end.reason}
    _logger.info("WS /stream", extra=details)


def _check_capacity(service: Service) -> None:
    if service.sessions >= service.settings.max_sessions:
        service.telemetry.rejected.labels("sessions").inc()
        raise SessionEnded(Close.TRY_LATER, f"All {service.settings.max_sessions} sessions are in use.")


async def _admit(websocket: WebSocket, connection: "_Connection", service: Service) -> None:
    settings, rejected = service.settings, service.telemetry.rejected
    if not origin_allowed(websocket, settings.origins):
        rejected.labels("origin").inc()
        raise SessionEnded(Close.POLICY, "Pages of this origin are not allowed.")
    try:
        address = websocket.client.host if websocket.client else ""
        service.rates.count(presented_key(websocket, service.keys), address)
    except RateLimited as error:
        rejected.labels("rate_limited").inc()
        raise SessionEnded(Close.TRY_LATER, str(error)) from None
    granted = access(websocket, service.keys)
    if granted is Access.MISSING:
        with service.stranger() as room:
            if not room:
                rejected.labels("sessions").inc()
                raise SessionEnded(Close.TRY_LATER, "Too many connections are waiting to authenticate.")
            granted = await _authenticate(connection, service.keys)
    if granted is not Access.GRANTED:
        rejected.labels("unauthorized").inc()
        missing = "This service needs an API key, as X-API-Key, subprotocol or first message."
        raise SessionEnded(Close.POLICY, "The API key is wrong." if granted is Access.WRONG else missing)
    if service.served is None or service.draining:
        rejected.labels("not_ready").inc()
        reason = "The service is stopping." if service.draining else f"Not ready: {service.reason}"
        raise SessionEnded(Close.TRY_LATER, reason)


async def _authenticate(connection: "_Connection", keys: tuple[str, ...]) -> Access:
    """The access that the first message gives."""
    try:
        async with asyncio.timeout(_AUTHENTICATE_TIMEOUT_S):
            command = messages.Command.validate_json(await connection.receive())
    except (TimeoutError, ValidationError):
        return Access.MISSING
    if not isinstance(command, messages.Authenticate):
        return Access.MISSING
    return Access.GRANTED if is_key(command.key, keys) else Access.WRONG


async def _serve(connection: "_Connection", service: Service) -> None:
    settings = service.settings
    session = Session(
        connection, service, service.defaults(), settings.smoothing_ms, settings.idle_timeout_s, service.telemetry
    )
    connection.admit()
    await connection.send(_ready(service))
    work = asyncio.ensure_future(session.run())
    stop = asyncio.ensure_future(service.stopping.wait())
    try:
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        raise SessionEnded(Close.GOING_AWAY, "The service is stopping.")
    finally:
        stop.cancel()
        work.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)


def _ready(service: Service) -> dict[str, Any]:
    model, settings = service.ready().model, service.settings
    return {
        "type": "ready",
        "protocol": messages.PROTOCOL,
        "labels": list(EMOTIONS),
        "model": replies.model(model),
        "limits": {
            "max_frame_bytes": settings.max_upload_bytes,
            "max_image_pixels": settings.max_image_pixels,
            "max_image_side_px": settings.max_image_side_px,
            "max_faces": settings.max_faces,
        },
        "smoothing": settings.smoothing_ms,
        "answers": list(service.ready().manifest.answers),
    }


class _Connection:
    """A Starlette WebSocket as a session sees it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket, self._sending = websocket, asyncio.Lock()
        self._budget: Budget | None = None
        self._held = deque([0, 0])  # bytes of the last two frames: one is analyzed, the newest waits

    @contextlib.contextmanager
    def holding(self, budget: Budget) -> Iterator[None]:
        """Count frames in `budget` while the block lasts."""
        self._budget = budget
        try:
            yield
        finally:
            budget.give_back(sum(self._held))

    def admit(self) -> None:
        """Accept frames from now on; until then messages are small."""
        admit = self._websocket.scope.get("state", {}).get("admit")
        if admit is not None:  # a server that is not ours has its own limits
            admit()

    async def receive(self) -> bytes | str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise SessionEnded(None)
        data = message.get("bytes")
        if data is None:
            return str(message["text"])
        self._hold(len(data))
        return bytes(data)

    def _hold(self, size: int) -> None:
        assert self._budget is not None
        self._budget.give_back(self._held.popleft())
        self._held.append(0)
        try:
            self._budget.take(size)
        except Overloaded as error:
            raise SessionEnded(Close.TRY_LATER, str(error)) from None
        self._held[-1] = size

    async def send(self, message: dict[str, Any]) -> None:
        try:
            async with self._sending:
                await self._websocket.send_json(message)
        except (WebSocketDisconnect, RuntimeError):  # gone, or going
            raise SessionEnded(None) from None

    async def close(self, code: Close, reason: str) -> None:
        """Close with a code and a reason, unless the client is gone or no longer reads."""
        if self._websocket.application_state is WebSocketState.DISCONNECTED:
            return
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._websocket.close(code, reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))
