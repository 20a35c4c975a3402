"""Connections whose clients stall are given up, and nobody else's."""

import asyncio

from services.api.connections.guard import Guard


class FakeTransport(asyncio.Transport):
    """A transport with so many bytes that the client has not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent, self.closing, self.aborted = 0, False, False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True


class FakeConnection:
    """A connection that expires at a time."""

    def __init__(self, expires_at: float = float("inf")) -> None:
        self.transport: asyncio.Transport = FakeTransport()
        self.fake = self.transport
        self._expires_at = expires_at

    def expired(self, now: float) -> bool:
        return now >= self._expires_at


def watched(*connections: FakeConnection) -> Guard:
    guard = Guard(limit=len(connections))
    for connection in connections:
        guard.add(connection)
    return guard


def test_an_answer_that_nobody_takes_is_given_up_and_one_that_is_taken_slowly_is_not() -> None:
    stuck, slow, quick = FakeConnection(), FakeConnection(), FakeConnection()
    guard = watched(stuck, slow, quick)
    for second in range(60):
        for connection, unsent in ((stuck, 90_000), (slow, 3_000_000 - 20_000 * second), (quick, 500 * (second % 2))):
            assert isinstance(connection.fake, FakeTransport)
            connection.fake.unsent = unsent
        guard.look(float(second))
    taken = [
        connection.fake.aborted for connection in (stuck, slow, quick) if isinstance(connection.fake, FakeTransport)
    ]
    assert taken == [True, False, False]


def test_a_long_answer_that_is_taken_piece_by_piece_is_not_given_up() -> None:
    """What is unsent is filled up again each time it is nearly gone, so it never becomes less than before."""
    slow = FakeConnection()
    guard = watched(slow)
    assert isinstance(slow.fake, FakeTransport)
    for second in range(100):
        slow.fake.unsent = 20_000 + 66_000 - 6000 * (second % 11)
        guard.look(float(second))
    assert not slow.fake.aborted


def test_a_client_that_reads_a_byte_now_and_then_is_given_up_too() -> None:
    trickling = FakeConnection()
    guard = watched(trickling)
    assert isinstance(trickling.fake, FakeTransport)
    for second in range(40):
        trickling.fake.unsent = 90_000 - second
        guard.look(float(second))
    assert trickling.fake.aborted


def test_a_connection_that_closes_is_not_waited_for() -> None:
    closing, open_still = FakeConnection(), FakeConnection()
    guard = watched(closing, open_still)
    closing.transport.close()
    for second in range(10):
        guard.look(float(second))
    assert isinstance(closing.fake, FakeTransport)
    assert closing.fake.aborted
    assert not open_still.transport.is_closing()


def test_a_deadline_closes_and_the_number_is_bounded() -> None:
    late, early = FakeConnection(expires_at=5), FakeConnection()
    guard = watched(late, early)
    assert not guard.full
    guard.add(FakeConnection())
    assert guard.full
    for second in range(7):
        guard.look(float(second))
    assert late.transport.is_closing()
    assert not early.transport.is_closing()
