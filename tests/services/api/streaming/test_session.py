"""One session against a fake connection: what each fault leads to."""

import asyncio
from typing import Any

import pytest

from services.api.faults import Overloaded
from services.api.streaming.session import Close, Session, SessionEnded
from services.api.telemetry import Telemetry
from shared.analyzer import Analysis, Model, Options
from shared.errors import ImageTooLarge, ModelError

NOTHING = Analysis(640, 480, (), {"decode": 0.001}, Model("m", "v", "haar"))


class FakeConnection:
    """Delivers `messages`, then nothing more; keeps what is sent."""

    def __init__(self, *messages: bytes | str) -> None:
        self.messages, self.sent = list(messages), []

    async def receive(self) -> bytes | str:
        if self.messages:
            return self.messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


def run(connection: FakeConnection, *outcomes: Analysis | Exception) -> tuple[BaseException, Telemetry]:
    """Run a session whose frames have these outcomes, one after another, until it ends."""
    remaining, telemetry = list(outcomes), Telemetry()

    async def analyze(data: bytes, options: Options) -> Analysis:
        outcome = remaining.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def scenario() -> BaseException:
        session = Session(connection, analyze, Options(), 250, 0.2, telemetry)
        with pytest.raises(Exception) as ended:  # noqa: PT011 # whatever it is, the caller asserts it
            await session.run()
        return ended.value

    return asyncio.run(scenario()), telemetry


def test_silence_ends_a_session() -> None:
    ended, _ = run(FakeConnection())
    assert isinstance(ended, SessionEnded)
    assert (ended.code, ended.reason) == (Close.GOING_AWAY, "No message for 0.2 s.")


def test_a_fault_of_the_picture_is_told_and_counted_and_the_session_goes_on() -> None:
    class TooManyFrames(ImageTooLarge):
        """A subclass, which has its class's code."""

    connection = FakeConnection(b"frame")
    ended, telemetry = run(connection, TooManyFrames("Too many."))
    (error,) = connection.sent
    assert (error["type"], error["code"], error["frame"]) == ("error", "image_too_large", 1)
    assert isinstance(ended, SessionEnded)
    assert ended.code is Close.GOING_AWAY
    assert telemetry.registry.get_sample_value("mien_errors_total", {"code": "image_too_large"}) == 1


def test_a_full_queue_is_waited_for() -> None:
    connection = FakeConnection(b"frame")
    run(connection, Overloaded("full"), Overloaded("full"), NOTHING)
    assert [message["type"] for message in connection.sent] == ["result"]


def test_a_fault_of_the_service_ends_the_session_with_it() -> None:
    connection = FakeConnection(b"frame")
    ended, _ = run(connection, ModelError("broken"))
    assert isinstance(ended, ModelError)
    assert connection.sent == []


def test_a_wrong_command_is_counted_by_its_code() -> None:
    connection = FakeConnection("dance")
    _, telemetry = run(connection)
    assert connection.sent[0]["code"] == "bad_message"
    assert telemetry.registry.get_sample_value("mien_errors_total", {"code": "bad_message"}) == 1
