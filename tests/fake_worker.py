"""A worker like the service's, but for one fault: `python -m tests.fake_worker FAULT FD`."""

import contextlib
import os
import sys
import time
from dataclasses import replace

from services.api.worker import Channel, open_and_check, serve
from shared.pictures import BgrImage
from shared.pipeline.detect import Detection, Detector


class FaultyDetector:
    """Finds what the detector behind it finds, unless the picture is 640 pixels wide: then it has its fault."""

    def __init__(self, fault: str, behind: Detector) -> None:
        self.name, self._fault, self._behind = behind.name, fault, behind

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        if image.shape[1] == 640:
            if self._fault == "raises":
                raise RuntimeError("secret inside")
            if self._fault == "has no memory":
                raise MemoryError
            if self._fault == "dies":
                os._exit(7)
            time.sleep({"hangs": 3600, "is slow": 0.3}[self._fault])
        return self._behind.detect(image, min_confidence, min_face)


def main() -> None:
    channel = Channel(int(sys.argv[2]))
    assembly = channel.receive()
    if sys.argv[1] == "never loads":
        time.sleep(3600)
    analyzer, answer = open_and_check(assembly)
    channel.send(answer)
    assert analyzer is not None
    with contextlib.suppress(EOFError, ConnectionError):
        faulty = replace(analyzer, detector=FaultyDetector(sys.argv[1], analyzer.detector))
        serve(channel, faulty, assembly.memory_bytes)


if __name__ == "__main__":
    main()
