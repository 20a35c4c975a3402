"""GET /: the demo page. Plain files, no build, nothing from elsewhere."""

import base64
import io
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI
from PIL import Image
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FILES: Final = Path(__file__).parents[1] / "web"
_HEADERS: Final = {
    # Nothing comes from anywhere but here. connect-src covers /stream too: 'self' takes in ws and wss of this host.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
router = APIRouter()


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """Answer the page itself; its files are under /web."""
    return FileResponse(_FILES / "index.html", headers=_HEADERS)


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        scope["state"]["route"] = "/web"
        return response


def mount_files(app: FastAPI) -> None:
    """Serve the files that the page is made of."""
    app.mount("/web", _Files(directory=_FILES), name="web")


def example_data_uri() -> str:
    """A tiny photo with one smiling face (the astronaut of scikit-image, public domain) as a data URI."""
    with Image.open(_FILES / "example.jpg") as photo:
        buffer = io.BytesIO()
        photo.resize((112, 112)).save(buffer, "JPEG", quality=60, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
