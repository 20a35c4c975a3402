"""Refuses requests at the connection while the queue is full, so that refusals take no time from accepted work."""

import asyncio
import logging
from collections.abc import Collection

from services.api.errors import answer_to, raw_problem
from services.api.faults import Overloaded
from services.api.middleware import request_id
from services.api.service import Service

_logger = logging.getLogger(__name__)


class Door:
    """Refuses requests to `paths` with a complete answer, before they reach the application."""

    def __init__(self, service: Service, paths: Collection[str]) -> None:
        self._service, self._paths = service, {path.encode(): path for path in paths}
        self._turned_away = 0  # since the last line of the log
        self._let_in = 0  # let in, but not yet in the queue: they start once everything that has arrived is read

    def refusal(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """The refusal of a POST; None if it may come in.

        Pages of other origins are answered by the application, which knows the headers that they need.
        """
        path = self._paths.get(url.partition(b"?")[0])
        if path is None or self._service.draining:
            return None
        try:
            self._service.workers.check_room(self._let_in)
            if self._let_in == 0:
                asyncio.get_running_loop().call_soon(self._forget)
            self._let_in += 1
            return None
        except Overloaded as error:
            if any(name == b"origin" for name, _ in headers):
                return None
            self._turned_away += 1
            answer = answer_to(error)
            self._service.telemetry.turned_away(path, answer.status, answer.code)
            return raw_problem(answer.status, answer.code, str(error), request_id(headers), keep=True)

    def _forget(self) -> None:
        self._let_in = 0

    def tell(self) -> None:
        """Log how many were refused since the last call; a line for each would cost more than the refusals."""
        if self._turned_away:
            _logger.warning("requests were turned away: the queue is full", extra={"requests": self._turned_away})
            self._turned_away = 0
