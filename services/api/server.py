"""uvicorn with our limits: prints where it listens, and stops without losing accepted requests."""

import asyncio
import signal
import socket
from typing import Final

import uvicorn

from services.api.app import create_app
from services.api.service import Service
from services.api.settings import Settings

_SESSIONS_END_TIMEOUT_S: Final = 3.0
_REQUESTS_END_TIMEOUT_S: Final = 20  # a stalled client must not keep the process running until it is killed


class Server(uvicorn.Server):
    """Serves the application of `settings`."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings)
        self._reloads: set[asyncio.Task[None]] = set()
        super().__init__(
            uvicorn.Config(
                self._app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_REQUESTS_END_TIMEOUT_S,
                server_header=False,
                ws_max_size=settings.max_upload_bytes,
                # Images are compressed already, and a small message must not inflate to a large one.
                ws_per_message_deflate=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, print where and with which model, and reload the model on SIGHUP."""
        await super().startup(sockets)
        if not self.started:
            return
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._begin_reload)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        everywhere = host in ("127.0.0.1", "0.0.0.0", "::", "::1")  # noqa: S104 # compared only
        url = f"http://{'localhost' if everywhere else host}:{port}"
        print(f"Mien is listening: page {url}/  documentation {url}/docs", flush=True)
        print(self._service.describe(), flush=True)

    def _begin_reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloads.add(task)  # the event loop keeps only weak references
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        await asyncio.to_thread(self._service.load)

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
