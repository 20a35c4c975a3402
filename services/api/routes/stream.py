"""WS /stream: video frames in, faces with identities out. docs/api.md describes the protocol."""

import asyncio
import contextlib
from typing import Any, Final

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from services.api.routes.dependencies import ServiceDep
from services.api.security import is_key, origin_allowed, presented_key
from services.api.service import Service
from services.api.streaming import messages
from services.api.streaming.session import Close, Session, SessionEnded
from shared.analyzer import Options
from shared.emotions import EMOTIONS

router = APIRouter()
_AUTHENTICATE_WITHIN_S: Final = 5.0
_CLOSE_WITHIN_S: Final = 2.0


@router.websocket("/stream")
async def stream(websocket: WebSocket, service: ServiceDep) -> None:
    """One session, from the handshake to the close with its reason."""
    subprotocols = websocket.scope.get("subprotocols", [])
    await websocket.accept(messages.SUBPROTOCOL if messages.SUBPROTOCOL in subprotocols else None)
    connection = _Connection(websocket)
    try:
        await _admit(websocket, connection, service)
        with service.session():
            await _serve(connection, service)
    except SessionEnded as end:
        if end.code is not None:
            await connection.close(end.code, end.reason)
    except Exception:
        await connection.close(Close.INTERNAL, "The service failed.")
        raise


async def _admit(websocket: WebSocket, connection: "_Connection", service: Service) -> None:
    settings = service.settings
    if not origin_allowed(websocket, settings.origins):
        service.telemetry.rejected.labels("origin").inc()
        raise SessionEnded(Close.POLICY, "Pages of this origin may not connect.")
    if settings.keys and not is_key(presented_key(websocket), settings.keys):
        await _authenticate(connection, service)
    if service.analyzer is None or service.stopping.is_set():
        service.telemetry.rejected.labels("not_ready").inc()
        raise SessionEnded(Close.TRY_LATER, "The service is not ready.")
    if service.sessions >= settings.max_sessions:
        service.telemetry.rejected.labels("sessions").inc()
        raise SessionEnded(Close.TRY_LATER, "The service has as many sessions as it may.")


async def _authenticate(connection: "_Connection", service: Service) -> None:
    """Wait for the key as the first message."""
    command: messages.Authenticate | messages.Configure | None
    try:
        async with asyncio.timeout(_AUTHENTICATE_WITHIN_S):
            message = await connection.receive()
        command = messages.Command.validate_json(message)
    except (TimeoutError, ValidationError):
        command = None
    if not isinstance(command, messages.Authenticate) or not is_key(command.key, service.settings.keys):
        service.telemetry.rejected.labels("unauthorized").inc()
        raise SessionEnded(Close.POLICY, "This service needs an API key, by subprotocol or first message.")


async def _serve(connection: "_Connection", service: Service) -> None:
    settings = service.settings
    options = Options(max_faces=settings.max_faces, min_confidence=settings.min_confidence)
    session = Session(connection, service.analyze, options, settings.smoothing_ms, service.telemetry)
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
    manifest, settings = service.ready().manifest, service.settings
    return {
        "type": "ready",
        "protocol": messages.PROTOCOL,
        "labels": list(EMOTIONS),
        "model": {"name": manifest.name, "version": manifest.version},
        "limits": {
            "max_frame_bytes": settings.max_upload_bytes,
            "max_image_pixels": settings.max_image_pixels,
            "max_image_side_px": settings.max_image_side_px,
            "max_faces": settings.max_faces,
        },
        "smoothing": settings.smoothing_ms,
    }


class _Connection:
    """A Starlette WebSocket as a session sees it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket, self._sending = websocket, asyncio.Lock()

    async def receive(self) -> bytes | str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise SessionEnded(None)
        data = message.get("bytes")
        return message["text"] if data is None else bytes(data)

    async def send(self, message: dict[str, Any]) -> None:
        try:
            async with self._sending:
                await self._websocket.send_json(message)
        except (WebSocketDisconnect, RuntimeError):  # gone, or going
            raise SessionEnded(None) from None

    async def close(self, code: Close, reason: str) -> None:
        """Close with a code and a reason, unless the client has gone or takes nothing any more."""
        if self._websocket.application_state is WebSocketState.DISCONNECTED:
            return
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN_S):
                await self._websocket.close(code, reason)
