"""One worker process, as the service's event loop sees it."""

import asyncio
import logging
import os
import pickle
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from services.api.faults import WorkerDied, WorkerFault
from services.api.jobs import Assembly, Done, Failed, Fault, Job, Ready, Refused, Reserve
from shared.errors import ModelError

_HEAD: Final = struct.Struct("!i")  # as multiprocessing.connection frames messages
_logger = logging.getLogger(__name__)


class Worker:
    """One process, and our end of the socket to it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._unfinished = False

    @classmethod
    async def start(cls, command: Sequence[str], assembly: Assembly) -> tuple["Worker", Ready]:
        """A worker that has verified its model. Raises ModelError with the reason if it cannot."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 # our own program
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the service, which lets work finish
            )
        worker = cls(process, *await asyncio.open_connection(sock=ours))
        answer: Any = None
        try:
            worker._send(assembly)
            answer = await worker._receive()
        except (EOFError, ConnectionError) as error:
            raise ModelError("A worker process ended while it loaded the model.") from error
        finally:
            if not isinstance(answer, Ready):
                worker.kill()
        if isinstance(answer, Ready):
            return worker, answer
        assert isinstance(answer, Refused)
        if answer.details:
            _logger.error("a worker could not load the model: %s", answer.details)
        raise ModelError(answer.reason)

    @property
    def fit(self) -> bool:
        """Running, and without an unfinished job."""
        return not self._unfinished and self._process.poll() is None

    @property
    def memory_bytes(self) -> int:
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def call(self, job: Job, reserve: Callable[[int], Awaitable[None]]) -> Done:
        """Run `job`; `reserve` waits for the memory it needs. Raises what the job raised, or WorkerDied."""
        self._unfinished = True
        try:
            self._send(job)
            while isinstance(answer := await self._receive(), Reserve):
                await reserve(answer.bytes)
                self._send(True)
        except (EOFError, ConnectionError) as error:
            raise WorkerDied("The worker process ended while it worked on this image.") from error
        self._unfinished = False
        if isinstance(answer, Failed):
            raise answer.error
        if isinstance(answer, Fault):
            raise WorkerFault(answer.details)
        assert isinstance(answer, Done)
        return answer

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        self._writer.transport.abort()

    def _send(self, message: object) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._writer.writelines((_HEAD.pack(len(data)), data))

    async def _receive(self) -> Any:
        (size,) = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
        return pickle.loads(await self._reader.readexactly(size))  # noqa: S301 # from our own program
