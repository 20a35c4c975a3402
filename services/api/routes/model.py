"""GET /model: what is served, and how good it is."""

from fastapi import APIRouter

from services.api.routes.dependencies import ServiceDep
from services.api.schemas import ModelDescription, Problem
from services.api.security import Authorized

router = APIRouter(tags=["model"])


@router.get(
    "/model",
    summary="The model that is served",
    dependencies=[Authorized],
    responses={401: {"model": Problem}, 503: {"model": Problem}},
)
async def model(service: ServiceDep) -> ModelDescription:
    """Name, version, labels, training provenance and every figure of its evaluation."""
    analyzer = service.ready()
    described = analyzer.manifest.model_dump(include=set(ModelDescription.model_fields))
    return ModelDescription(detector=analyzer.detector.name, **described)
