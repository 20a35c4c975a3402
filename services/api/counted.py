"""Answers that are large enough to count."""

from typing import Final

from fastapi import Response
from starlette.types import Receive, Scope, Send

from services.api.budget import Budget

_PIECE_BYTES: Final = 65_536


class CountedResponse(Response):
    """A body that counts toward the memory budget until the client has taken it, or has left.

    It is sent in pieces, each when the client has taken those before it: a client that reads slowly holds one answer,
    counted once, and not another copy in the connection's buffer. Raises Overloaded when there is no room.
    """

    def __init__(self, body: bytes, media_type: str, budget: Budget) -> None:
        super().__init__(body, media_type=media_type)
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._budget.holding() as held:
            held.grow(len(self.body))
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), _PIECE_BYTES):
                piece = self.body[start : start + _PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
