"""uvicorn with our limits: says where it listens, and stops without losing what it accepted."""

import asyncio
import signal
import socket
from typing import Final

import uvicorn

from services.api.app import create_app
from services.api.service import Service
from services.api.settings import Settings

_SESSIONS_END_WITHIN_S: Final = 3.0


class Server(uvicorn.Server):
    """The application of `settings`, served."""

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
                server_header=False,
                ws_max_size=settings.max_upload_bytes,
                ws_max_queue=4,  # frames that wait in memory before a session reads them
                # Images are compressed already, and a small message must not unpack to a large one.
                ws_per_message_deflate=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, print where, and load the model anew on SIGHUP."""
        await super().startup(sockets)
        if self.started:
            if hasattr(signal, "SIGHUP"):
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGHUP, lambda: self._reloads.add(loop.create_task(self._reload())))
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            everywhere = host in ("127.0.0.1", "0.0.0.0", "::", "::1")  # noqa: S104 # compared only
            url = f"http://{'localhost' if everywhere else host}:{port}"
            print(f"Mien listens: page {url}/  documentation {url}/docs", flush=True)

    async def _reload(self) -> None:
        await asyncio.to_thread(self._service.load)

    @property
    def _service(self) -> Service:
        service = self._app.state.service
        assert isinstance(service, Service)
        return service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be not ready, say goodbye to video sessions, then let uvicorn finish the requests that it accepted."""
        service = self._service
        service.telemetry.ready.set(0)
        service.draining = True
        await asyncio.sleep(service.settings.drain_delay_s)
        service.stop()
        deadline = asyncio.get_running_loop().time() + _SESSIONS_END_WITHIN_S
        while service.sessions and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)
