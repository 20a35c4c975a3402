"""GET /model: which model is served, and how good it is."""

from fastapi import APIRouter

from services.api.dependencies import ServiceDep
from services.api.openapi import problems
from services.api.schemas import ModelDescription
from services.api.security import Authorized

router = APIRouter(tags=["model"])


@router.get(
    "/model",
    summary="The model served",
    dependencies=[Authorized],
    responses=problems(401, 503),
)
async def model(service: ServiceDep) -> ModelDescription:
    """Name, version, labels, training provenance and every figure of its evaluation."""
    analyzer = service.ready()
    described = analyzer.manifest.model_dump(include=set(ModelDescription.model_fields))
    return ModelDescription(detector=analyzer.detector.name, **described)
