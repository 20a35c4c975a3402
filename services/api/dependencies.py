"""What routes depend on."""

from typing import Annotated, TypeAlias

from fastapi import Depends
from starlette.requests import HTTPConnection

from services.api.service import Service


def service_of(connection: HTTPConnection) -> Service:
    """The service behind a request or a WebSocket. Our dependencies call it: each further one slows every request."""
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service


# A coroutine, like all our dependencies: FastAPI runs plain functions in a thread pool, at 0.2 ms each.
async def _service(connection: HTTPConnection) -> Service:
    return service_of(connection)


ServiceDep: TypeAlias = Annotated[Service, Depends(_service)]
