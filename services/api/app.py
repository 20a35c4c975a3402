"""create_app(settings): routes, handlers and the lifespan that owns the service."""

from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from prometheus_client import start_http_server

from services.api import errors, openapi
from services.api.launch import COMMAND, Launched
from services.api.middleware import CatchAll, ProblemsOnly, RequestContext
from services.api.routes import health, metrics, model, page, predict, stream
from services.api.service import Service
from services.api.settings import Settings
from services.api.telemetry import Telemetry

VERSION: Final = "0.2.0"  # of pyproject.toml; a test compares
_DESCRIPTION: Final = """
Video uses the WebSocket `/stream`, which this page cannot show: each binary message is one encoded image, answered by
one JSON message with faces that keep their `id`. See `docs/api.md`; the page at `/` uses it.
"""
_UNTRACED: Final = ("/livez", "/readyz", "/healthz", "/metrics", "/web")


def create_app(
    settings: Settings,
    command: Sequence[str] = COMMAND,
    launched: Sequence[Launched] = (),
    wait_for_model: bool = True,
) -> FastAPI:
    """The application. Its model is loaded when it starts, not here.

    `command` starts a worker; those in `launched` have begun to start. With `wait_for_model`, the application has started
    when the model was loaded or refused.
    """
    telemetry = Telemetry()

    # The documentation page is served with its own scripts: it works offline, and nobody learns who reads it.
    app = FastAPIOffline(
        title="Mien",
        version=VERSION,
        summary="Facial expressions: an image in, face boxes and seven probabilities out.",
        description=_DESCRIPTION,
        lifespan=_lifespan(
            settings, lambda: Service(settings, telemetry, command, launched), telemetry, wait_for_model
        ),
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
        swagger_ui_parameters={"tryItOutEnabled": True},
        # Traces by OpenTelemetry's standard variables (extra otel). Its metrics would repeat ours, and its logs contain
        # what clients sent.
        telemetry={"auto_configure": True, "metrics": False, "logs": False, "exclude": _is_untraced},
    )
    _add_middleware(app, settings, telemetry)
    errors.install(app)
    for router in (predict.router, stream.router, model.router, health.router, page.router):
        app.include_router(router)
    if settings.metrics_port is None:
        app.include_router(metrics.router)
    page.mount_files(app)
    openapi.install(app, keyed=bool(settings.keys))
    return app


def _lifespan(
    settings: Settings, opened: Callable[[], Service], telemetry: Telemetry, wait_for_model: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The life of the application: from loading its model to the end of its workers."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = opened()
        loading = service.load()
        if wait_for_model:
            await loading
        with _metrics_port(settings, telemetry):
            yield
        await service.close()

    return lifespan


def _add_middleware(app: FastAPI, settings: Settings, telemetry: Telemetry) -> None:
    """The last one added is the outermost: every answer gets an id, also those of CORS, and every error CORS headers."""
    app.add_middleware(CatchAll, stopping=lambda: app.state.service.draining)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "X-API-Key", "Authorization", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(ProblemsOnly)
    app.add_middleware(RequestContext, telemetry=telemetry, draining=lambda: app.state.service.draining)


def _is_untraced(scope: MutableMapping[str, Any]) -> bool:
    return str(scope.get("path", "")).startswith(_UNTRACED)


@contextmanager
def _metrics_port(settings: Settings, telemetry: Telemetry) -> Iterator[None]:
    """Serve /metrics on its own port, if one is set, while the block lasts."""
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
