"""Routes that are called directly: FastAPI describes them by their signatures, and has no part in answering.

Resolving each request into arguments took as much CPU time per image as everything else outside the worker processes.
"""

import inspect
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, get_args
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from services.api.dependencies import service_of
from services.api.faults import InvalidParameter
from services.api.security import authorize


class DirectRoute(APIRoute):
    """Checks the key, and calls the function with the request and, where it takes one, with the `query`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer, parameters = self.endpoint, inspect.signature(self.endpoint).parameters
        model = get_args(parameters["query"].annotation)[0] if "query" in parameters else None

        async def handler(request: Request) -> Response:
            authorize(service_of(request), request)
            query = () if model is None else (parsed(model, request.scope["query_string"]),)
            response = await answer(request, *query)
            assert isinstance(response, Response)
            return response

        return handler


@lru_cache(maxsize=256)
def parsed(model: type[BaseModel], query_string: bytes) -> BaseModel:
    """The parameters of a request. Raises RequestValidationError, as FastAPI does, or InvalidParameter."""
    given = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    values = dict(given)
    try:
        query = model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RequestValidationError([fault | {"loc": ("query", *fault["loc"])} for fault in faults]) from error
    for name, value in given:
        if value != values[name]:
            raise InvalidParameter(f"{name} is given more than once, with different values.")
    return query
