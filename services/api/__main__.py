"""`python -m services.api`: serve with the settings of the environment."""

import logging
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
    uvicorn.Server(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
