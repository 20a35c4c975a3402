"""HTTP: bounds on headers, on their time, and on the pieces of a body."""

import asyncio
import time
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.api.connections.guard import FULL_READ_BYTES, Guard
from services.api.connections.shortcut import Headers, Shortcut, Whole
from services.api.errors import raw_problem

_MAX_HEADERS: Final = 100
_MAX_HEADER_BYTES: Final = 8000  # one line; a WebSocket's handshake may not have more
_MAX_HEAD_BYTES: Final = 32_768
_HEAD_TIMEOUT_S: Final = 10.0
_MAX_PIPELINED: Final = 16
# A refused client is not read for this long, so that one that asks again at once costs little.
_PAUSE_S: Final = 0.05
# A request may take the shortcut if its body arrives within this; the application is more patient.
_PROMPT_S: Final = 1.0
# A body in more pieces than this, each smaller than this, is meant to cost and not to be received.
_MAX_PIECES: Final = 2000
_MIN_PIECE_BYTES: Final = 64
# What surrounds a piece: its size in hexadecimal, and line breaks.
_PIECE_FRAME_BYTES: Final = 32


class UntilClosed:
    """A transport that ignores writes once its client has gone, as asyncio's own transports do."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol, with the guard's bounds. A client that exceeds one gets a problem and is disconnected."""

    def __init__(self, *args: Any, guard: Guard, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = guard
        self._refusal: tuple[int, str, str] | None = None
        self._waiting_since: float | None = None  # for the end of a request's head
        self._head_open = self._body_open = self._turned_away = False
        self._headers_seen = self._head_bytes = self._named_bytes = 0
        self._pieces = self._piece_bytes = self._sent_bytes = 0
        self._held: list[bytes] | None = None  # the body of a request that may take the shortcut
        self._held_since = 0.0
        self._whole: Whole | None = None  # the request that took it and is being answered

    def connection_made(self, transport: Any) -> None:
        super().connection_made(UntilClosed(transport))  # type: ignore[arg-type] # it has all of a transport
        self._guard.add(self)
        self._waiting_since = self.loop.time()
        if self._guard.full:
            self.logger.warning("connections are refused: all %d are open (MIEN_MAX_CONNECTIONS)", self._guard.limit)
            self._refuse(503, "overloaded", f"{self._guard.limit:,} connections are open, the limit. Try again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.remove(self)
        self._hand_over()
        if self._whole is not None:
            self._whole.leave()
        super().connection_lost(exc)

    def expired(self, now: float) -> bool:
        if time.monotonic() - self._held_since > _PROMPT_S:
            self._hand_over()
        if self._waiting_since is None or now - self._waiting_since < _HEAD_TIMEOUT_S:
            return False
        if self._head_open:
            self._refuse(408, "slow_request", f"The request's headers did not arrive within {_HEAD_TIMEOUT_S:g} s.")
        return True

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        was_open, body_was_open = self._head_open, self._body_open
        super().data_received(data)
        if self._head_open and was_open:
            self._count_head(len(data))
        if self._body_open and body_was_open:
            self._count_around_body(len(data))
        if self._refusal is not None:
            self._refuse(*self._refusal)
        elif len(data) >= FULL_READ_BYTES and not self.transport.is_closing():
            self.transport.pause_reading()
            self.loop.call_soon(self._read_on)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse_later(431, f"The request's headers are larger than {_MAX_HEAD_BYTES:,} bytes, the limit.")

    def _count_around_body(self, size: int) -> None:
        """Bound what comes with a body and is no part of it: extensions of its chunks, and headers after it."""
        self._sent_bytes += size
        if self._sent_bytes > self._piece_bytes + self._pieces * _PIECE_FRAME_BYTES + _MAX_HEAD_BYTES:
            self._refuse_later(431, f"More than {_MAX_HEAD_BYTES:,} bytes came around the body.")

    def on_message_begin(self) -> None:
        self._head_open, self._body_open, self._turned_away = True, False, False
        self._headers_seen = self._head_bytes = self._named_bytes = 0
        self._pieces = self._piece_bytes = self._sent_bytes = 0
        if self._refusal is None:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) > _MAX_HEADER_BYTES:
            self._refuse_later(414, f"The address is longer than {_MAX_HEADER_BYTES:,} bytes, the limit.")
        if self._refusal is None:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers_seen += 1
        if self._headers_seen > _MAX_HEADERS:
            self._refuse_later(431, f"The request has more than {_MAX_HEADERS} headers, the limit.")
        self._named_bytes += len(name) + len(value)
        if self._named_bytes > _MAX_HEAD_BYTES:
            self._refuse_later(431, f"The request's headers are larger than {_MAX_HEAD_BYTES:,} bytes, the limit.")
        if len(name) + len(value) > _MAX_HEADER_BYTES:
            self._refuse_later(431, f"A header is longer than {_MAX_HEADER_BYTES:,} bytes, the limit.")
        if self._refusal is None and not self._body_open:  # those after a body mean nothing to us
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_open, self._body_open, self._waiting_since = False, True, None
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._refuse_later(400, f"More than {_MAX_PIPELINED} requests were sent ahead.", "too_many_requests_ahead")
        if self.parser.should_upgrade() and self._has_body():
            # The parser takes no body then, and a WebSocket's handshake would wait for it.
            detail = "A request with a body cannot ask for an upgrade. Send it as plain HTTP/1.1 (curl: --http1.1)."
            self._refuse_later(400, detail, "bad_request")
        if self._refusal is not None:
            return
        if not self._stands_alone():
            super().on_headers_complete()
        elif not self._is_turned_away():
            self._begin()

    def _has_body(self) -> bool:
        given = dict(self.headers)
        return b"transfer-encoding" in given or given.get(b"content-length", b"0").strip() != b"0"

    def _stands_alone(self) -> bool:
        """Whether this is a POST that can be answered without the application: no other is under way, nothing follows."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not self.expect_100_continue
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        )

    def _is_turned_away(self) -> bool:
        """Whether this request must not come in; then it is answered at once, and what remains of it is not kept."""
        door = self._guard.door
        answer = None if door is None else door.refusal(self.url, self.headers)
        if answer is None:
            return False
        self.transport.write(answer)
        self._turned_away, self._waiting_since = True, self.loop.time()
        return True

    def _begin(self) -> None:
        """Wait for the body if the request may take the shortcut; let the application read it otherwise."""
        shortcut = self._guard.shortcut
        if shortcut is not None and shortcut.takes(self.url, self.headers):
            self._held, self._held_since = [], time.monotonic()
        else:
            super().on_headers_complete()

    def _hand_over(self) -> None:
        """Give the application a request whose body is late."""
        held, self._held = self._held, None
        if held is not None:
            super().on_headers_complete()
            for piece in held:
                super().on_body(piece)

    def _take_shortcut(self, shortcut: Shortcut, body: bytes) -> None:
        whole = Whole(self.url, self.headers, body, self._held_since, self._send_whole)
        self.cycle = whole  # type: ignore[assignment] # it has what the protocol asks of one
        self._held, self._whole = None, whole
        whole.task = task = self.loop.create_task(shortcut.answer(whole))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _send_whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer in one piece: each write costs a system call, and wakes the client."""
        whole, self._whole = self._whole, None
        assert whole is not None
        whole.response_started = whole.response_complete = True
        end = () if whole.keep_alive else ((b"connection", b"close"),)
        pieces = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers, *end):
            pieces += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join((*pieces, b"\r\n", body)))
        if not whole.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_body(self, body: bytes) -> None:
        self._pieces += 1
        self._piece_bytes += len(body)
        if self._pieces > _MAX_PIECES and self._piece_bytes < _MIN_PIECE_BYTES * self._pieces:
            self._refuse_later(400, f"The body comes in pieces of less than {_MIN_PIECE_BYTES} bytes.", "tiny_pieces")
        if self._held is not None:
            self._held.append(body)
        elif self._refusal is None and not self._turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_open = False
        if self._turned_away:
            self.on_response_complete()
            self.transport.pause_reading()
            self.loop.call_later(_PAUSE_S, self._read_on)
        elif self._held is not None and self._refusal is None:
            assert self._guard.shortcut is not None
            self._take_shortcut(self._guard.shortcut, b"".join(self._held))
        elif self._refusal is None:
            super().on_message_complete()

    def _read_on(self) -> None:
        if not self.transport.is_closing() and not self.flow.read_paused:
            self.transport.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._waiting_since = self.loop.time()

    def handle_websocket_upgrade(self) -> None:
        if self._refusal is not None:
            return
        self._guard.remove(self)
        try:
            super().handle_websocket_upgrade()
        except Exception as error:  # one connection's fault must not reach the others, nor the stop
            self.logger.error("a WebSocket handshake failed", exc_info=error)
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "bad_request", "The request is not valid HTTP.")

    def shutdown(self) -> None:
        self._hand_over()
        try:
            super().shutdown()
        except Exception as error:  # as above
            self.logger.error("a connection could not be ended", exc_info=error)
            self.transport.abort()

    def _refuse_later(self, status: int, detail: str, code: str = "headers_too_large") -> None:
        """Refuse when the parser has returned: it calls us, and cannot be stopped in the middle."""
        self._refusal = self._refusal or (status, code, detail)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(raw_problem(status, code, detail))
        self._refusal = (status, code, detail)
        self.transport.close()
