"""What routes depend on."""

from typing import Annotated, TypeAlias

from fastapi import Depends
from starlette.requests import HTTPConnection

from services.api.service import Service


# A coroutine, as all of our dependencies: FastAPI sends plain functions through a pool of threads, at 0.2 ms each.
async def _service(connection: HTTPConnection) -> Service:
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service


ServiceDep: TypeAlias = Annotated[Service, Depends(_service)]
