"""Log lines, for machines and for people."""

import json
import logging

import pytest

from services.api import logs


@pytest.fixture(autouse=True)
def restored() -> object:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_json_line_has_the_message_and_its_extras(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logging.getLogger("mien.test").info("serving %s", "a model", extra={"version": "1f2e", "timings_ms": {"decode": 1}})
    entry = json.loads(line_of(capsys))
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "info",
        "logger": "mien.test",
        "message": "serving a model",
        "version": "1f2e",
        "timings_ms": {"decode": 1},
    }


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    try:
        raise ValueError("inside\nand below")
    except ValueError:
        logging.getLogger("mien.test").exception("it failed")
    (line,) = line_of(capsys).splitlines()
    assert "ValueError: inside\nand below" in json.loads(line)["exception"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_message_that_is_not_text_is_logged(log_format: logs.LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(log_format, "info")
    logging.getLogger("uvicorn.error").error(ConnectionResetError("by peer"))
    assert "by peer" in line_of(capsys)


def test_people_read_time_level_message_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "info")
    logging.getLogger("mien.test").warning("slow", extra={"status": 200})
    assert line_of(capsys).endswith("WARNING slow  status=200\n")


def test_lines_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "warning")
    logging.getLogger("mien.test").info("unseen")
    assert line_of(capsys) == ""


def test_uvicorn_s_lines_with_addresses_of_websockets_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.info('%s - "WebSocket %s" [accepted]', "10.0.0.1", "/stream?token=secret")
    uvicorn.info("connection open")
    uvicorn.info("Application startup complete.")
    (line,) = line_of(capsys).splitlines()
    assert "startup" in line
