"""Is the process alive, does it answer images, and with what."""

from fastapi import APIRouter

from services.api.errors import NotReady
from services.api.routes.dependencies import ServiceDep
from services.api.schemas import Alive, ModelName, Problem, Ready

router = APIRouter(tags=["health"])


@router.get("/livez", summary="The process is alive")
async def livez() -> Alive:
    """Independent of load and of the model: only a process that hangs fails this."""
    return Alive()


@router.get("/readyz", summary="Images are answered", responses={503: {"model": Problem}})
@router.get("/healthz", summary="As /readyz", responses={503: {"model": Problem}})
async def readyz(service: ServiceDep) -> Ready:
    """200 once the model was checked and warmed up; 503 with the reason until then and while stopping."""
    analyzer = service.ready()
    if service.draining:
        raise NotReady("The service is stopping.")
    return Ready(model=ModelName.of(analyzer.model))
