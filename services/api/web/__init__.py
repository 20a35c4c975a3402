"""The demo page: plain files, no build, nothing from elsewhere."""

import base64
from pathlib import Path
from typing import Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_HERE: Final = Path(__file__).parent
_HEADERS: Final = {
    # Pictures are shown from memory (blob:); nothing else comes from anywhere but here.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class _Page(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        scope.setdefault("state", {})["route"] = "page"
        response.headers.update(_HEADERS)
        return response


def page() -> StaticFiles:
    """The application that serves the page's files."""
    return _Page(directory=_HERE, html=True)


def example_data_uri() -> str:
    """A small photo with one smiling face (the astronaut of scikit-image, public domain) as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode((_HERE / "example.jpg").read_bytes()).decode()
