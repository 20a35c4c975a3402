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
    served, defaults = service.ready(), service.defaults()
    described = served.manifest.model_dump(include=set(ModelDescription.model_fields) - {"default_prior", "answers"})
    return ModelDescription(
        detector=served.model.detector,
        answers=list(served.manifest.answers),
        default_answer=defaults.answer,
        default_prior=defaults.prior if isinstance(defaults.prior, str) else list(defaults.prior or ()),
        **described,
    )
