"""uvicorn with our limits: prints where it listens, and stops without losing accepted requests."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import uvicorn

from services.api.app import create_app
from services.api.connections.door import Door
from services.api.connections.guard import Guard
from services.api.connections.http import HttpConnection
from services.api.connections.shortcut import Shortcut
from services.api.connections.websocket import WebSocketConnection
from services.api.launch import Launched
from services.api.routes import predict
from services.api.service import Service
from services.api.settings import Settings

_SESSIONS_END_TIMEOUT_S: Final = 3.0
_OWN_DESCRIPTORS: Final = 64  # sockets to workers, files of the page, the log


class Server(uvicorn.Server):
    """Serves the application of `settings`."""

    def __init__(self, settings: Settings, launched: Sequence[Launched]) -> None:
        """`launched`: workers that have begun to start."""
        self._app = create_app(settings, launched=launched, wait_for_model=False)
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()
        super().__init__(
            uvicorn.Config(
                self._app,
                host=settings.host,
                port=settings.port,
                http=self._http_connection,  # type: ignore[arg-type] # called as the class would be
                ws=self._websocket_connection,  # type: ignore[arg-type] # as above
                log_config=None,
                access_log=False,
                # A stalled client must not keep the process running until it is killed.
                timeout_graceful_shutdown=settings.stop_timeout_s,  # type: ignore[arg-type] # it waits for fractions too
                server_header=False,
                ws_max_size=settings.max_upload_bytes,
                # Images are compressed already, and a small message must not inflate to a large one.
                ws_per_message_deflate=False,
            )
        )

    def _http_connection(self, **arguments: Any) -> HttpConnection:
        return HttpConnection(guard=self._guard, **arguments)

    def _websocket_connection(self, **arguments: Any) -> WebSocketConnection:
        return WebSocketConnection(guard=self._guard, **arguments)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, reload the model on SIGHUP, and print where, and with which model once it is loaded."""
        self._guard = Guard(_connection_limit(self._settings.max_connections))
        await super().startup(sockets)
        if not self.started:
            return
        self._guard.budget = self._service.budget
        self._guard.door = Door(self._service, predict.PATHS)
        self._guard.shortcut = Shortcut(self._service)
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._service.load)
        self._spawn(self._guard.run())
        self._spawn(self._announce())

    async def _announce(self) -> None:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        everywhere = host in ("127.0.0.1", "0.0.0.0", "::", "::1")  # noqa: S104 # compared only
        url = f"http://{'localhost' if everywhere else host}:{port}"
        await self._service.load_attempted.wait()
        announcement = f"Mien is listening: page {url}/  documentation {url}/docs\n{self._service.describe()}\n"
        # The service must not depend on who reads stdout.
        threading.Thread(target=_print, args=(announcement,), daemon=True).start()

    def _spawn(self, work: "Coroutine[Any, Any, None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the event loop keeps only weak references
        task.add_done_callback(self._tasks.discard)

    @property
    def _service(self) -> Service:
        service = self._app.state.service
        assert isinstance(service, Service)
        return service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop being ready, end video sessions, then let uvicorn finish the accepted requests."""
        service = self._service
        service.telemetry.ready.set(0)
        service.draining = True
        await asyncio.sleep(service.settings.drain_delay_s)
        service.stop()
        deadline = asyncio.get_running_loop().time() + _SESSIONS_END_TIMEOUT_S
        while service.sessions and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)
        for task in self._tasks:
            task.cancel()


def _print(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk, or a pipe that nobody reads any more
        os.write(1, text.encode())


def _connection_limit(wanted: int) -> int:
    """`wanted`, or as many as the system has descriptors for, besides those that the service itself needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = hard if hard != resource.RLIM_INFINITY else max(soft, wanted + _OWN_DESCRIPTORS)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OWN_DESCRIPTORS))
