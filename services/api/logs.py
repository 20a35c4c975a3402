"""The log: JSON for machines, text for people at a terminal; uvicorn's own lines in the same form."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

LogFormat: TypeAlias = Literal["auto", "json", "text"]
# What every record has; the rest is what a caller passed as `extra`.
_COMMON: Final = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "websocket", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class TextLines(logging.Formatter):
    """For people: time, level, message and extras."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        extras = " ".join(f"{name}={value}" for name, value in _extras(record).items())
        return super().formatMessage(record) + (f"  {extras}" if extras else "")


def configure(log_format: LogFormat, level: str) -> None:
    """Send every logger's lines to stderr in one form; auto is text at a terminal and JSON elsewhere."""
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(TextLines() if as_text else JsonLines())
    handler.addFilter(_has_no_address)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _has_no_address(record: logging.LogRecord) -> bool:
    """Drop uvicorn's lines about WebSockets: they contain addresses and queries, and we log a line of our own."""
    text = str(record.msg)  # logging takes any object as a message
    return not (record.name == "uvicorn.error" and ("WebSocket" in text or text.startswith("connection ")))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _COMMON and not name.startswith("_")}
