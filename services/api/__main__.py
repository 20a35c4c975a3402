"""`python -m services.api`: serve, with settings from the environment."""

import errno
import signal
import socket
import sys

from pydantic import ValidationError

from services.api import logs
from services.api.cpus import available_cpus
from services.api.launch import launch
from services.api.settings import PREFIX, Settings, undecodable_settings, unknown_settings


def main() -> int:
    """Serve until stopped; 2, with a line per invalid setting, if there is one."""
    faults = [f"error: {line}" for line in (*unknown_settings(), *undecodable_settings())]
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(map(str, fault["loc"]))
            given = "" if name == "api_keys" else f" (given: {fault['input']!r})"  # keys are secret
            faults.append(f"error: {PREFIX}{name.upper()}: {fault['msg'].removeprefix('Value error, ')}{given}")
    if faults:
        print("\n".join(faults), file=sys.stderr)
        return 2
    try:
        if settings.metrics_port:
            _listen(settings.host, settings.metrics_port, "MIEN_METRICS_PORT").close()
        listening = _listen(settings.host, settings.port, "MIEN_PORT")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    logs.configure(settings.log_format, settings.log_level)
    launched = [launch() for _ in range(settings.workers or available_cpus())]
    from services.api.server import Server  # which takes as long as a worker takes to start

    server = Server(settings, launched)
    # uvicorn stops gracefully and then raises the signal again; a graceful stop is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listening])
    return 0 if server.started else 1


def _listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. Raises OSError that says what to do."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
        # Connections inherit it. Without it Nagle's algorithm holds the body of an answer back until the client has
        # acknowledged its headers, 40 ms later; asyncio sets it only where a socket names its protocol.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        fix = (
            f"stop the other program, or set {setting}"
            if error.errno == errno.EADDRINUSE
            else f"set MIEN_HOST or {setting}"
        )
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}; {fix}.") from error


if __name__ == "__main__":
    sys.exit(main())
