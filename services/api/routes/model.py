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
    """Name, version, labels, training provenance, and every figure of its evaluation for each of its answers."""
    analyzer, defaults = service.ready(), service.defaults()
    described = analyzer.manifest.model_dump(include=set(ModelDescription.model_fields) - {"default_prior", "answers"})
    return ModelDescription(
        detector=analyzer.detector.name,
        answers=list(analyzer.manifest.answers),
        default_answer=defaults.answer,
        default_prior=defaults.prior if isinstance(defaults.prior, str) else list(defaults.prior or ()),
        **described,
    )
