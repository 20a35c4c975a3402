"""Is the process alive, does it answer images, and with what."""

from fastapi import APIRouter

from services.api.errors import NotReady
from services.api.routes.dependencies import ServiceDep
from services.api.schemas import Health, ModelName

router = APIRouter(tags=["health"])


@router.get("/livez", summary="The process is alive")
async def livez() -> Health:
    """Independent of load and of the model: only a process that hangs fails this."""
    return Health()


@router.get("/readyz", summary="Images are answered")
@router.get("/healthz", summary="As /readyz")
async def readyz(service: ServiceDep) -> Health:
    """200 once the model was checked and warmed up; 503 with the reason until then and while stopping."""
    analyzer = service.ready()
    if service.draining:
        raise NotReady("The service is stopping.")
    manifest = analyzer.manifest
    return Health(model=ModelName(name=manifest.name, version=manifest.version), detector=analyzer.detector.name)
