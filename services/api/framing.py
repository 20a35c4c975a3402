"""Messages over the socket between the service and a worker process: pickles, each behind its size.

Both ends are this program and trust each other.
"""

import pickle
import struct
from collections.abc import Iterator
from typing import Any, Final

_SIZE: Final = struct.Struct("!I")


def framed(message: object) -> tuple[bytes, bytes]:
    """The bytes of a message, in two pieces."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _SIZE.pack(len(data)), data


class Incoming:
    """Puts messages together from the pieces that arrive."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, piece: bytes) -> Iterator[Any]:
        """The messages that are complete with `piece`."""
        self._received += piece
        while len(self._received) >= _SIZE.size:
            end = _SIZE.size + _SIZE.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            with memoryview(self._received) as received:
                message = pickle.loads(received[_SIZE.size : end])  # noqa: S301 # from our own program
            del self._received[:end]
            yield message
