"""Starts worker processes. It imports little, so that they begin to load their libraries while the service loads its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

COMMAND: Final = (sys.executable, "-m", "services.api.worker")


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that has begun to start, and our end of the socket to it."""

    process: "subprocess.Popen[bytes]"
    socket: socket.socket


def launch(command: Sequence[str] = COMMAND) -> Launched:
    """Start a worker process. It ends when our end of the socket is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 # our own program
            [*command, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # NumPy would start a thread for each CPU
            start_new_session=True,  # Ctrl-C is for the service, which lets work finish
        )
    return Launched(process, ours)
