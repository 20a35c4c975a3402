"""create_app(settings): routes, handlers and the lifespan that owns the service."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio.to_thread
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry, start_http_server

from services.api import errors
from services.api.middleware import LastResort, RequestContext
from services.api.routes import health, metrics, model, page, predict, stream
from services.api.service import Service
from services.api.settings import Settings
from services.api.telemetry import Telemetry

VERSION: Final = "0.1.0"
_DESCRIPTION: Final = """
Video goes through the WebSocket `/stream`, which this page cannot show: a binary message is one encoded image and is
answered by one JSON message with faces that keep their `id`. `docs/api.md` describes it, `/` shows it.
"""
_NOT_TRACED: Final = ("/livez", "/readyz", "/healthz", "/metrics", "/web")


def create_app(settings: Settings) -> FastAPI:
    """The application. Its model is loaded when it starts, not here."""
    telemetry = Telemetry(CollectorRegistry())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(settings, telemetry)
        await anyio.to_thread.run_sync(service.load)
        with _own_port(settings, telemetry):
            yield
        await anyio.to_thread.run_sync(service.close)

    # The documentation page brings its scripts along: it works without the internet, and tells nobody who reads it.
    app = FastAPIOffline(
        title="Mien",
        version=VERSION,
        summary="Facial expressions: an image in, face boxes and seven probabilities out.",
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_parameters={"tryItOutEnabled": True},
        # Traces by OpenTelemetry's standard variables (extra otel). Its metrics would be ours again, and its logs carry
        # what clients sent.
        telemetry={"auto_configure": True, "metrics": False, "logs": False, "exclude": _is_not_traced},
    )
    # The last one added is the outermost: an id for everything, also for what CORS answers, and CORS on every answer.
    app.add_middleware(LastResort)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "X-API-Key", "Authorization", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(RequestContext, telemetry=telemetry)
    errors.install(app)
    if settings.metrics_port is None:
        app.include_router(metrics.router)
    for router in (predict.router, stream.router, model.router, health.router, page.router):
        app.include_router(router)
    page.mount_files(app)
    return app


def _is_not_traced(scope: MutableMapping[str, Any]) -> bool:
    return str(scope.get("path", "")).startswith(_NOT_TRACED)


@contextmanager
def _own_port(settings: Settings, telemetry: Telemetry) -> Iterator[None]:
    """Serve /metrics on a port of its own for as long as the block lasts, where one is set."""
    if settings.metrics_port is None:
        yield
        return
    server, thread = start_http_server(settings.metrics_port, settings.host, telemetry.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
