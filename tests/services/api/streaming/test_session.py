"""One session against a fake connection: what each fault leads to."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.api.faults import Overloaded
from services.api.streaming.session import Close, Session, SessionEnded
from services.api.telemetry import Telemetry
from shared.analysis import Analysis, Model, Options
from shared.errors import ImageTooLarge, ModelError, UnknownAnswer

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


class FakeReader:
    """Answers frames with these outcomes, one after another; gives the labels' answer alone."""

    def __init__(self, *outcomes: Analysis | Exception) -> None:
        self.outcomes, self.asked = list(outcomes), []

    def check(self, options: Options) -> None:
        if options.answer == "people":
            raise UnknownAnswer("This model has no answer 'people'.")

    async def analyze_frame(self, take: Callable[[], bytes], options: Options) -> Analysis:
        take()
        self.asked.append(options)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def run(connection: FakeConnection, *outcomes: Analysis | Exception) -> tuple[BaseException, Telemetry]:
    """Run a session whose frames have these outcomes until it ends."""
    telemetry = Telemetry()

    async def scenario() -> BaseException:
        session = Session(connection, FakeReader(*outcomes), Options(answer="labels"), 250, 0.2, telemetry)
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


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type": "configure", "answer": "people", "max_faces": 1}', "unknown_answer"),
        ('{"type": "configure", "prior": [1, 2], "max_faces": 1}', "unusable_prior"),
        ('{"type": "configure", "prior": "even", "max_faces": 1}', "unusable_prior"),
    ],
)
def test_an_answer_that_cannot_be_given_is_told_and_nothing_changes(text: str, code: str) -> None:
    connection = FakeConnection(text, '{"type": "configure"}')
    run(connection)
    error, configured = connection.sent
    assert (error["type"], error["code"]) == ("error", code)
    assert (configured["answer"], configured["prior"], configured["max_faces"]) == ("labels", None, 32)


def test_a_prior_is_configured_by_name_or_by_seven_shares() -> None:
    connection = FakeConnection(
        '{"type": "configure", "prior": "balanced"}', '{"type": "configure", "prior": [2, 0, 0, 2, 0, 0, 0]}'
    )
    run(connection)
    assert [message["prior"] for message in connection.sent] == ["balanced", (0.5, 0, 0, 0.5, 0, 0, 0)]


def test_a_model_swapped_for_one_without_the_answer_is_an_error_of_the_frame() -> None:
    connection = FakeConnection(b"frame", b"frame")
    ended, _ = run(connection, UnknownAnswer("gone"), NOTHING)
    assert [message["type"] for message in connection.sent][:1] == ["error"]
    assert isinstance(ended, SessionEnded)
