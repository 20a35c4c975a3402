"""Who may ask: API keys and origins. Without keys everyone may; without origins only pages of this very host."""

import base64
import binascii
import hmac
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from services.api.errors import Unauthorized
from services.api.routes.dependencies import ServiceDep

# A browser cannot set headers on a WebSocket; it can name subprotocols: "mien.key." and the key in base64url.
KEY_SUBPROTOCOL: Final = "mien.key."


def is_key(candidate: str, keys: Iterable[str]) -> bool:
    """Whether `candidate` is one of `keys`, in a time that tells nothing about them."""
    return any([hmac.compare_digest(candidate.encode(), key.encode()) for key in keys])  # noqa: C419 # compares them all


def presented_key(connection: HTTPConnection) -> str:
    """The key that a request brings, empty without: X-API-Key, Authorization: Bearer, or a WebSocket's subprotocol."""
    if key := connection.headers.get("x-api-key"):
        return key
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    for protocol in connection.scope.get("subprotocols", ()):
        if protocol.startswith(KEY_SUBPROTOCOL):
            return _decoded(protocol.removeprefix(KEY_SUBPROTOCOL))
    return ""


def origin_allowed(connection: HTTPConnection, allowed: Iterable[str]) -> bool:
    """Whether the page that opens this connection may: one of this host, one allowed, or no page at all."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    allowed = set(allowed)
    return "*" in allowed or origin in allowed or urlsplit(origin).netloc == connection.headers.get("host")


def _authorized(request: Request, service: ServiceDep) -> None:
    keys = service.settings.keys
    if keys and not is_key(presented_key(request), keys):
        raise Unauthorized("This service needs an API key, as X-API-Key or Authorization: Bearer.")


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""


Authorized: Final = Depends(_authorized)
