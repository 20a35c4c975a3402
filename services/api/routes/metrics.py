"""GET /metrics, for Prometheus."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from services.api.dependencies import ServiceDep

router = APIRouter(tags=["metrics"])
_MEDIA_TYPES: Final = ("text/plain", "application/openmetrics-text")
_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The metrics.", "content": {name: {"schema": {"type": "string"}} for name in _MEDIA_TYPES}}
}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=_TEXT)
async def metrics(request: Request, service: ServiceDep) -> Response:
    """In the text format or OpenMetrics, as the scraper asks."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(service.telemetry.registry), headers={"Content-Type": content_type})
