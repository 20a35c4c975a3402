"""GET /: the demo page. Plain files, no build step, nothing from other hosts."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FILES: Final = Path(__file__).parents[1] / "web"
_HEADERS: Final = {
    # Everything comes from this host. connect-src covers /stream too: 'self' includes ws and wss of this host.
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
    """The page itself; its files are under /web."""
    return FileResponse(FILES / "index.html", headers=_HEADERS)


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        scope["state"]["route"] = "/web"
        return response


def mount_files(app: FastAPI) -> None:
    """Serve the page's files."""
    app.mount("/web", _Files(directory=FILES), name="web")
