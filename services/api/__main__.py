"""`python -m services.api`: serve with the settings of the environment."""

import logging
import signal
import socket
import sys

import uvicorn
from pydantic import ValidationError

from services.api.app import create_app
from services.api.settings import PREFIX, Settings, unknown_settings


def main() -> int:
    """Serve until stopped; 2 with a line for each setting that cannot be."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = PREFIX + "_".join(map(str, fault["loc"])).upper()
            print(f"error: {name}: {fault['msg']} (given: {fault['input']!r})", file=sys.stderr)
        return 2
    if unknown := unknown_settings():
        print("\n".join(f"error: {line}" for line in unknown), file=sys.stderr)
        return 2
    config = uvicorn.Config(
        create_app(settings), host=settings.host, port=settings.port, log_config=None, access_log=False
    )
    server = _Server(config)
    # uvicorn stops gracefully and then raises the signal again; a graceful stop is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            reachable = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host  # noqa: S104 # compared only
            print(
                f"Mien listens: page http://{reachable}:{port}/  documentation http://{reachable}:{port}/docs",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
