"""GET /metrics, for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from services.api.dependencies import ServiceDep

router = APIRouter(tags=["metrics"])


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request, service: ServiceDep) -> Response:
    """In the text format or OpenMetrics, as the scraper asks."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(service.telemetry.registry), headers={"Content-Type": content_type})
