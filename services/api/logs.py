"""The log: JSON for machines, text for people at a terminal; uvicorn's own lines in the same form."""

import asyncio
import contextlib
import json
import logging
import os
import select
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO, TypeAlias

ACCESS: Final = "mien.access"  # the logger of requests
_KEPT_S: Final = 0.02  # under load, the lines of so long are written together, and each costs half as much
LogFormat: TypeAlias = Literal["auto", "json", "text"]
# What every record has; the rest is what a caller passed as `extra`.
_COMMON: Final = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "websocket", "taskName"}


_encode: Final = json.JSONEncoder(default=str).encode


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
        return _encode(entry)


class TextLines(logging.Formatter):
    """For people: time, level, message and extras."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        extras = " ".join(f"{name}={value}" for name, value in _extras(record).items())
        return super().formatMessage(record) + (f"  {extras}" if extras else "")


class NeverBlocking(logging.StreamHandler[TextIO]):
    """Writes to stderr what fits into it now: a pipe that nobody reads must not stop the service.

    Lines that find it full are dropped, and their number is told when there is room again. On an event loop, lines about
    requests are written a moment later, several together. Any other line is written immediately, after those that wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[logging.LogRecord] = []
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record)
        late = record.created - self._kept[0].created > _KEPT_S
        if record.name != ACCESS or record.levelno >= logging.WARNING or late or not self._flushes_later():
            self.flush()

    def _flushes_later(self) -> bool:
        if len(self._kept) > 1:  # those before it have begun to wait
            return True
        try:
            asyncio.get_running_loop().call_later(_KEPT_S, self.flush)
        except RuntimeError:  # there is no event loop
            return False
        return True

    def flush(self) -> None:
        """Write the lines that were kept. Logging calls it at the end of the process too."""
        with self.lock or contextlib.nullcontext():
            kept, self._kept = self._kept, []
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError):  # not a file
            for record in kept:
                super().emit(record)
            return
        lines = list[str]()
        for record in kept:
            try:
                lines.append(self.format(record) + "\n")
            except Exception:
                self.handleError(record)
        if self._dropped and _write(descriptor, f"{self._dropped} lines of the log were dropped: stderr was full.\n"):
            self._dropped = 0
        for text, number in _together(lines):
            self._dropped += 0 if _write(descriptor, text) else number


def _together(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The lines, joined to texts that a pipe takes whole, and how many lines each text has."""
    text, number = "", 0
    for line in lines:
        if number and len(text) + len(line) > select.PIPE_BUF:
            yield text, number
            text, number = "", 0
        text, number = text + line, number + 1
    if number:
        yield text, number


def _write(descriptor: int, text: str) -> bool:
    """Write `text` as far as that does not block; whether all of it was written."""
    data, poll = text.encode(errors="backslashreplace"), select.poll()
    poll.register(descriptor, select.POLLOUT)
    for start in range(0, len(data), select.PIPE_BUF):  # so much fits into a pipe that is ready
        events = poll.poll(0)
        if not events or events[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            return False
        try:
            os.write(descriptor, data[start : start + select.PIPE_BUF])
        except OSError:  # a full disk
            return False
    return True


class OncePerSecond(logging.Filter):
    """Lets a warning or an error with the same words through once in a second; a flood is one line with its number."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.name == ACCESS:
            return True
        key = (record.name, str(record.msg))
        since, repeated = self._seen.get(key, (0.0, 0))
        if record.created - since < 1:
            self._seen[key] = (since, repeated + 1)
            return False
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (record.created, 0)
        if repeated:
            record.repeated = repeated
        return True


def configure(log_format: LogFormat, level: str) -> None:
    """Send every logger's lines to stderr in one form; auto is text at a terminal and JSON elsewhere."""
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = NeverBlocking()
    handler.setFormatter(TextLines() if as_text else JsonLines())
    handler.addFilter(_has_no_address)
    handler.addFilter(OncePerSecond())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # What no line of ours shows is not looked up for each of them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # the switch that logging documents for this


def _has_no_address(record: logging.LogRecord) -> bool:
    """Drop uvicorn's lines about WebSockets: they contain addresses and queries, and we log a line of our own."""
    text = str(record.msg)  # logging takes any object as a message
    return not (record.name == "uvicorn.error" and ("WebSocket" in text or text.startswith("connection ")))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _COMMON and not name.startswith("_")}
