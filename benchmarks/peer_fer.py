"""`peer_fer.py FOLDER SECONDS CORE`: runs in fer's own environment; prints one JSON line. Nothing of ours is imported."""

import json
import os
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")


def main() -> None:
    """Read every picture once for the faces, then all of them in turn for the time."""
    folder, seconds, core = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    os.sched_setaffinity(0, {core})  # before TensorFlow counts the cores
    import cv2
    import numpy as np
    from fer.fer import FER

    cv2.setNumThreads(1)
    reader = FER()
    files = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]

    def look(data: bytes) -> list[tuple[list[float], str]]:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        faces = reader.detect_emotions(picture)
        return [(list(map(float, face["box"])), max(face["emotions"], key=face["emotions"].get)) for face in faces]

    found = [look(data) for data in files]
    count, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        look(files[count % len(files)])
        count += 1
    print(json.dumps({"a_second": count / (time.perf_counter() - started), "found": found}))


if __name__ == "__main__":
    main()
