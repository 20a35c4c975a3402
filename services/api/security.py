"""API keys and origins. Without keys everyone has access; without origins only pages of this host do."""

import base64
import binascii
import hmac
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection

from services.api.dependencies import service_of
from services.api.faults import Unauthorized
from services.api.service import Service

# Browsers cannot set headers on a WebSocket, but can name subprotocols: "mien.key." and the key in base64url.
KEY_SUBPROTOCOL: Final = "mien.key."
# These only document the key in /docs; it is read below, for WebSockets as well.
_HEADER: Final = Depends(APIKeyHeader(name="X-API-Key", auto_error=False))
_BEARER: Final = Depends(HTTPBearer(auto_error=False))


class Access(Enum):
    """What a presented key allows."""

    GRANTED = "granted"
    MISSING = "missing"
    WRONG = "wrong"


def access(connection: HTTPConnection, keys: tuple[str, ...]) -> Access:
    """The access of a request by its key: X-API-Key, Authorization: Bearer, or a WebSocket's subprotocol."""
    key = _presented(connection)
    if not keys or is_key(key, keys):
        return Access.GRANTED
    return Access.WRONG if key else Access.MISSING


def is_key(candidate: str, keys: Iterable[str]) -> bool:
    """Whether `candidate` is one of `keys`, compared in constant time."""
    return any([hmac.compare_digest(candidate.encode(), key.encode()) for key in keys])  # noqa: C419 # compares all of them


def presented_key(connection: HTTPConnection, keys: tuple[str, ...]) -> str:
    """The valid key of a request; '' where it has none, or where none is needed."""
    key = _presented(connection)
    return key if keys and is_key(key, keys) else ""


def _presented(connection: HTTPConnection) -> str:
    if key := connection.headers.get("x-api-key"):
        return _as_sent(key)
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _as_sent(token.strip())
    for protocol in connection.scope.get("subprotocols", ()):
        if protocol.startswith(KEY_SUBPROTOCOL):
            return _decoded(protocol.removeprefix(KEY_SUBPROTOCOL))
    return ""


def _as_sent(header: str) -> str:
    """A header's text: bytes that are UTF-8, as terminals send them, else Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def origin_allowed(connection: HTTPConnection, allowed: Iterable[str]) -> bool:
    """Whether the page behind this connection is allowed: of this host, of an allowed origin, or no page at all."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    allowed = set(allowed)
    try:
        host = urlsplit(origin).netloc
    except ValueError:  # not a URL
        return False
    return "*" in allowed or origin in allowed or host == connection.headers.get("host")


def authorize(service: Service, request: Request) -> None:
    """Count a request toward its sender's rate, and check its key. Raises RateLimited or Unauthorized."""
    if not service.keys and not service.rates.limited:
        return
    service.rates.count(presented_key(request, service.keys), request.client.host if request.client else "")
    found = access(request, service.keys)
    if found is Access.MISSING:
        raise Unauthorized("This service needs an API key, as X-API-Key or Authorization: Bearer.")
    if found is Access.WRONG:
        raise Unauthorized("The API key is wrong.")


async def _authorized(request: Request, _header: Annotated[Any, _HEADER], _bearer: Annotated[Any, _BEARER]) -> None:
    authorize(service_of(request), request)


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""


Authorized: Final = Depends(_authorized)
