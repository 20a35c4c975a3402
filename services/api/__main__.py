"""`python -m services.api`: serve with the settings of the environment."""

import signal
import sys

from pydantic import ValidationError

from services.api import logs
from services.api.server import Server
from services.api.settings import PREFIX, Settings, unknown_settings


def main() -> int:
    """Serve until stopped; 2 with a line for each setting that cannot be."""
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
    logs.configure(settings.log_format, settings.log_level)
    server = Server(settings)
    # uvicorn stops gracefully and then raises the signal again; a graceful stop is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
