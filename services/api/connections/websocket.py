"""WebSockets: bounds on messages, their number, and what is kept for a client that does not read."""

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from services.api.connections.guard import FULL_READ_BYTES, Guard
from services.api.errors import raw_problem
from services.api.faults import Overloaded

MAX_TEXT_BYTES: Final = 4096  # a command has a few hundred
_HANDSHAKE_TIMEOUT_S: Final = 10.0
_MAX_EARLY_BYTES: Final = 65_536  # any message before the session is admitted
# Data is parsed in slices, so that a flood is noticed after a thousand frames and not after a hundred thousand.
_SLICE_BYTES: Final = 8192
_MAX_FRAMES_PER_S: Final = 300  # a client that sends more is read more slowly
_MAX_FRAMES_AT_ONCE: Final = 1000
_INVALID, _TOO_BIG, _TRY_LATER = 1007, 1009, 1013


class WebSocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with the guard's bounds.

    Messages are small until the application calls `scope["state"]["admit"]()`. What a client has sent and the application
    has not taken yet counts toward the guard's budget.
    """

    def __init__(self, *args: Any, guard: Guard, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = guard
        self.app_state["admit"] = self._admit
        self.conn.max_message_size = _MAX_EARLY_BYTES
        self._opened_at = self.loop.time()
        self._frames, self._counted_at = 0.0, self._opened_at
        self._throttled, self._backlog = False, bytearray()  # what has come and is not parsed yet
        self._queued = self._fragments = self._held = 0  # bytes

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._guard.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.remove(self)
        self._hold(0)
        self.connections.add(self)  # uvicorn fails if a failed handshake has removed it
        super().connection_lost(exc)

    def expired(self, now: float) -> bool:
        # Sessions have limits of their own; until there is one, the handshake has.
        return not self.handshake_complete and now - self._opened_at > _HANDSHAKE_TIMEOUT_S

    def data_received(self, data: bytes) -> None:
        self._backlog += data
        if len(data) >= FULL_READ_BYTES:
            self.transport.pause_reading()
            self.loop.call_soon(self._resume)
        else:
            self._feed()

    def _feed(self) -> None:
        """Parse what has arrived, while the application keeps up and the client keeps to its rate."""
        while self._backlog and not self.transport.is_closing() and not self.read_paused and not self._throttled:
            data = bytes(self._backlog[:_SLICE_BYTES])
            del self._backlog[:_SLICE_BYTES]
            super().data_received(data)
        if not self.transport.is_closing():
            self._count_bytes()
            self._settle_reading()

    def _settle_reading(self) -> None:
        """Read while there is nothing to catch up on, and only from a client that reads as well."""
        if self._backlog or self.read_paused or self._throttled or not self.writable.is_set():
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _throttle(self, seconds: float) -> None:
        self._throttled = True
        self.loop.call_later(seconds, self._let_go)

    def _let_go(self) -> None:
        self._throttled = False
        self._resume()

    def _resume(self) -> None:
        if not self.disconnected:
            self._feed()

    def _count_bytes(self) -> None:
        try:
            self._hold(len(self._backlog) + len(self.conn.reader.buffer) + self._fragments + self._queued)
        except Overloaded as error:
            self._fail(_TRY_LATER, str(error))

    def _hold(self, size: int) -> None:
        """Tell the budget that this connection holds `size` bytes. Raises Overloaded."""
        if size > self._held:
            self._guard.budget.take(size - self._held)
        else:
            self._guard.budget.give_back(self._held - size)
        self._held = size

    def handle_events(self) -> None:
        for event in self.conn.events_received():
            if isinstance(event, Frame):
                self._count_frame()
            if not self.close_sent or (isinstance(event, Frame) and event.opcode is Opcode.CLOSE):
                self._handle(event)

    def _handle(self, event: Any) -> None:
        """As uvicorn does, for one event."""
        if not isinstance(event, Frame):
            self.handle_connect(event)
            return
        if event.opcode in (Opcode.CONT, Opcode.TEXT, Opcode.BINARY):
            self._fragments = len(event.data) + (self._fragments if event.opcode is Opcode.CONT else 0)
        handlers = {
            Opcode.CONT: self.handle_cont, Opcode.TEXT: self.handle_text, Opcode.BINARY: self.handle_bytes,
            Opcode.PING: lambda _: self.handle_ping(), Opcode.PONG: self.handle_pong, Opcode.CLOSE: self.handle_close,
        }  # fmt: skip
        handlers[event.opcode](event)

    def _count_frame(self) -> None:
        """Count a frame, and pause reading from a client that sends too many."""
        now = self.loop.time()
        self._frames = max(0.0, self._frames - (now - self._counted_at) * _MAX_FRAMES_PER_S) + 1
        self._counted_at = now
        if self._frames > _MAX_FRAMES_AT_ONCE and not self._throttled:
            self._throttle((self._frames - _MAX_FRAMES_AT_ONCE / 2) / _MAX_FRAMES_PER_S)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            if self._fragments > MAX_TEXT_BYTES:
                self._fail(_TOO_BIG, f"A text message has more than {MAX_TEXT_BYTES:,} bytes, the limit.")
                return
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._fail(_INVALID, "A text message is not UTF-8.")
                return
        self._queued, self._fragments = self._queued + self._fragments, 0
        super().send_receive_event_to_app()

    async def receive(self) -> Any:
        message: Any = await super().receive()
        self._queued = max(0, self._queued - len(message.get("bytes") or message.get("text") or ""))
        if not self.transport.is_closing():
            self._feed()
        return message

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read: what it sends would only be answered."""
        super().pause_writing()
        self._settle_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._settle_reading()

    def handle_parser_exception(self) -> None:
        if self.handshake_initiated and self.conn.close_sent is not None:
            super().handle_parser_exception()
            return
        self.handshake_complete = self.close_sent = True
        self.transport.write(raw_problem(400, "bad_request", "The WebSocket handshake is not valid."))
        self.transport.close()

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except Exception as error:  # one connection's fault must not reach the stop
            self.logger.error("a WebSocket could not be ended", exc_info=error)
            self.transport.abort()

    def _admit(self) -> None:
        """The session is admitted: from now on frames may be as large as images."""
        self.conn.max_message_size = self.config.ws_max_size

    def _fail(self, code: int, reason: str) -> None:
        """Close at once, with a reason if the client can still be told."""
        self.frames, self._fragments, self.close_sent = [], 0, True
        if self.conn.state is State.OPEN:
            self.conn.fail(code, reason[:120])
            self.transport.write(b"".join(self.conn.data_to_send()))
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.close()
