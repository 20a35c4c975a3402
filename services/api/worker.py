"""One worker process: an analyzer that works on one image after another, and can be killed at any time.

    python -m services.api.worker FD

FD is a socket to the service; jobs.py has the messages.
"""

import binascii
import contextlib
import os
import resource
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from services.api.faults import BadForm
from services.api.jobs import OWN_BYTES, Assembly, Done, Failed, Fault, Job, Ready, Refused, Reserve
from shared.analyzer import Analyzer, Options
from shared.annotate import annotate, encode
from shared.assembly import open_analyzer
from shared.errors import ImageTooLarge, MienError, OutOfMemory
from shared.pipeline.decode import decode

_MARGIN_BYTES: Final = 200_000_000  # for ONNX Runtime's arenas and threads' stacks, which grow with the pictures


def serve(connection: Connection, analyzer: Analyzer, memory_bytes: int) -> None:
    """Work on jobs until the service closes the connection."""

    def reserve(needed: int) -> None:
        if needed > OWN_BYTES + memory_bytes:
            raise ImageTooLarge(
                f"Decoding this image takes {needed / 1e6:,.0f} MB of memory; the limit is "
                f"{(OWN_BYTES + memory_bytes) / 1e6:,.0f} MB. Send a smaller one."
            )
        if needed > OWN_BYTES:
            connection.send(Reserve(needed - OWN_BYTES))
            connection.recv()

    while True:
        job = connection.recv()
        assert isinstance(job, Job)
        try:
            answer: Done | Failed | Fault = work(analyzer, job, reserve)
        except MienError as error:
            answer = Failed(error.with_traceback(None))
        except MemoryError:
            answer = Failed(OutOfMemory("There is too little memory for this image right now."))
        except Exception:
            answer = Fault(traceback.format_exc())
        connection.send(answer)


def work(analyzer: Analyzer, job: Job, reserve: Callable[[int], None]) -> Done:
    """Run one job. Raises as `Analyzer.analyze` and `reserve` do."""
    data = _from_base64(job.data) if job.base64 else job.data
    analysis = analyzer.analyze(data, job.options, reserve)
    if job.draw is None:
        return Done(analysis)
    whole = replace(analyzer.limits, target_side_px=analyzer.limits.max_side_px)
    # Half as much again: what the encoder writes.
    pixels = decode(data, whole, lambda needed: reserve(needed * 3 // 2)).pixels
    return Done(analysis, encode(annotate(pixels, analysis.faces, job.points), job.draw))


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


def bound_memory(more: int) -> None:
    """Let this process take `more` bytes than it has now: a file may lie about its size, and a decoder may leak."""
    try:
        status = Path("/proc/self/status").read_text()
        wanted = int(status.partition("VmData:")[2].split()[0]) * 1024 + more
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
    except (OSError, ValueError, IndexError):  # not Linux
        return


def main() -> None:
    """Serve on the socket that the command line names, until it is closed."""
    connection = Connection(int(sys.argv[1]))
    cv2.setNumThreads(1)  # the workers share the cores
    os.nice(5)  # and yield to the service's event loop, which has little to do but must do it at once
    with contextlib.suppress(
        OSError
    ):  # when memory runs out, the system kills a worker first, and the service replaces it
        Path("/proc/self/oom_score_adj").write_text("800")
    with contextlib.suppress(EOFError, ConnectionError):
        assembly = connection.recv()
        analyzer, answer = open_and_check(assembly)
        # Decoders complain about broken files on stderr.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        connection.send(answer)
        if analyzer is not None:
            bound_memory(OWN_BYTES + assembly.memory_bytes + _MARGIN_BYTES)
            serve(connection, analyzer, assembly.memory_bytes)


if __name__ == "__main__":
    main()
