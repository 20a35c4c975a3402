"""One worker process: an analyzer that works on one image after another, and can be killed at any time.

    python -m services.api.worker FD

FD is a socket to the service; jobs.py has the messages.
"""

import binascii
import contextlib
import ctypes
import os
import resource
import select
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from services.api import replies
from services.api.faults import BadForm
from services.api.framing import Incoming, framed
from services.api.jobs import OWN_BYTES, Assembly, Done, Failed, Fault, Job, Ready, Refused, Reserve
from shared.analysis import Analysis, Options
from shared.analyzer import Analyzer
from shared.annotate import ENCODER_BYTES_PER_PIXEL, annotate, encode
from shared.assembly import open_analyzer
from shared.errors import ImageTooLarge, MienError, OutOfMemory
from shared.pipeline.decode import decode, memory_to_draw_on

_PIECE_BYTES: Final = 262_144  # read at once
_REST_MS: Final = 1000  # without work
_MARGIN_BYTES: Final = 200_000_000  # for ONNX Runtime's arenas and threads' stacks, which grow with the pictures


class Channel:
    """Our end of the socket to the service."""

    def __init__(self, descriptor: int) -> None:
        self._socket, self._incoming = socket.socket(fileno=descriptor), Incoming()
        self._waiting = select.poll()
        self._waiting.register(descriptor, select.POLLIN)

    def receive(self) -> Any:
        """The next message. Raises EOFError when the service has closed the socket, or ConnectionError."""
        if not self._waiting.poll(_REST_MS):
            give_memory_back()
        while piece := self._socket.recv(_PIECE_BYTES):
            for message in self._incoming.feed(piece):
                return message
        raise EOFError

    def send(self, message: object) -> None:
        """Send a message. Raises ConnectionError."""
        self._socket.sendall(b"".join(framed(message)))


def serve(channel: Channel, analyzer: Analyzer, memory_bytes: int) -> None:
    """Work on jobs until the service closes the connection."""
    bound = MemoryBound()
    bound.allow(OWN_BYTES)

    def reserve(needed: int) -> None:
        if needed > OWN_BYTES + memory_bytes:
            raise ImageTooLarge(
                f"This image takes {needed / 1e6:,.0f} MB of memory; the limit is "
                f"{(OWN_BYTES + memory_bytes) / 1e6:,.0f} MB. Send a smaller one."
            )
        if needed > OWN_BYTES:
            channel.send(Reserve(needed - OWN_BYTES))
            channel.receive()
            bound.allow(needed)

    while True:
        job = channel.receive()
        assert isinstance(job, Job)
        try:
            answer: Done | Failed | Fault = work(analyzer, job, reserve)
        except MienError as error:
            answer = Failed(error.with_traceback(None))
        except MemoryError:
            answer = Failed(OutOfMemory("There is too little memory for this image right now."))
        except Exception:
            answer = Fault(traceback.format_exc())
        channel.send(answer)
        bound.allow(OWN_BYTES)


def work(analyzer: Analyzer, job: Job, reserve: Callable[[int], None]) -> Done:
    """Run one job. Raises as `Analyzer.analyze` and `reserve` do."""
    data = _from_base64(job.data) if job.base64 else job.data
    if job.draw is not None:
        # All at once: two workers that hold a part each would wait for each other.
        reserve(memory_to_draw_on(data, analyzer.limits, ENCODER_BYTES_PER_PIXEL[job.draw]))
        reserve = _reserved
    analysis = analyzer.analyze(data, job.options, reserve)
    analysis = replace(analysis, timings_s={"queue": job.waited_s, **analysis.timings_s})
    tops = tuple((face.emotion, max(face.probabilities)) for face in analysis.faces)
    if job.request_id:
        return Done(analysis.timings_s, tops, replies.prediction(analysis, job.request_id))
    if job.draw is None:
        return Done(analysis.timings_s, tops, analysis=analysis if job.crops else _without_crops(analysis))
    pixels = decode(data, replace(analyzer.limits, target_side_px=analyzer.limits.max_side_px)).pixels
    drawn = encode(annotate(pixels, analysis.faces, job.points), job.draw)
    return Done(analysis.timings_s, tops, drawn)


def _reserved(_: int) -> None:
    """The memory is there already."""


def _without_crops(analysis: Analysis) -> Analysis:
    return replace(analysis, faces=tuple(replace(face, crop=None) for face in analysis.faces))


def _from_base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text.translate(None, b" \t\r\n"), strict_mode=True)
    except binascii.Error as error:
        raise BadForm(f"'image' is not base64: {error}.") from error


def warm_up(analyzer: Analyzer) -> None:
    """Analyze a generated picture once, so that the first request is not slow. Raises as `analyze` does."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    analyzer.analyze(data, Options())
    analyzer.analyze(data, Options(detect=False))


def open_and_check(assembly: Assembly) -> tuple[Analyzer | None, Ready | Refused]:
    """The analyzer, verified and warmed up, or the reason why there is none."""
    try:
        analyzer = open_analyzer(
            assembly.model,
            assembly.detector,
            assembly.detector_files,
            assembly.limits,
            threads=1,
            providers=assembly.providers,
            mirror=assembly.mirror,
        )
        analyzer.check(Options(answer=assembly.answer, prior=assembly.prior))
        warm_up(analyzer)
    except MienError as error:
        return None, Refused(str(error))
    except Exception as error:  # libraries raise many types on broken files
        return None, Refused(f"The model cannot be loaded: {error!r}", traceback.format_exc())
    return analyzer, Ready(analyzer.model, analyzer.manifest)


def give_memory_back() -> None:
    """Return memory that large pictures no longer need to the system."""
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


class MemoryBound:
    """Holds this process to the memory that was reserved: a file may lie about its size, and a decoder may leak."""

    def __init__(self) -> None:
        self._now, self._base = -1, 0
        with contextlib.suppress(OSError, ValueError, IndexError):  # without Linux nothing is bounded
            status = Path("/proc/self/status").read_text()
            self._base = int(status.partition("VmData:")[2].split()[0]) * 1024 + _MARGIN_BYTES

    def allow(self, more: int) -> None:
        """Let the process have `more` bytes than it had when the bound was made."""
        if self._base and more != self._now:
            self._now, (_, hard) = more, resource.getrlimit(resource.RLIMIT_DATA)
            wanted = self._base + more
            resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))


def main() -> None:
    """Serve on the socket that the command line names, until it is closed."""
    channel = Channel(int(sys.argv[1]))
    cv2.setNumThreads(1)  # the workers share the cores
    os.nice(5)  # and yield to the service's event loop, which has little to do but must do it at once
    with contextlib.suppress(
        OSError
    ):  # when memory runs out, the system kills a worker first, and the service replaces it
        Path("/proc/self/oom_score_adj").write_text("800")
    with contextlib.suppress(EOFError, ConnectionError):
        assembly = channel.receive()
        analyzer, answer = open_and_check(assembly)
        # Decoders complain about broken files on stderr.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        channel.send(answer)
        if analyzer is not None:
            serve(channel, analyzer, assembly.memory_bytes)


if __name__ == "__main__":
    main()
