"""Whether the process is alive, and whether it analyzes images, and with which model."""

from fastapi import APIRouter

from services.api import replies
from services.api.dependencies import ServiceDep
from services.api.openapi import problems
from services.api.schemas import Alive, ModelName, Ready

router = APIRouter(tags=["health"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="The process is running")
async def livez() -> Alive:
    """Independent of load and model: only a hung process fails this."""
    return Alive()


@router.head("/readyz", include_in_schema=False)
@router.head("/healthz", include_in_schema=False)
@router.get("/readyz", summary="Images are analyzed", responses=problems(503))
@router.get("/healthz", name="healthz", summary="Same as /readyz", responses=problems(503))
async def readyz(service: ServiceDep) -> Ready:
    """200 once the model is verified and warmed up; 503 with the reason until then, while no worker is running, and while stopping."""
    return Ready(model=ModelName(**replies.model(service.check_health().model)))
