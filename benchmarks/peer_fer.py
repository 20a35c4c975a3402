"""`peer_fer.py FOLDER SECONDS CORE`: runs in fer's own environment; prints one JSON line. Nothing of ours is imported."""

import json
import os
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")


def main() -> None:
    """With 0 seconds read every picture once, for the faces; otherwise one after another, for the time."""
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

    look(files[0])
    if not seconds:
        print(json.dumps({"found": [look(data) for data in files]}))
        return
    count, started, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < started + seconds:
        look(files[count % len(files)])
        count += 1
    a_second, cpu_ms = count / (time.perf_counter() - started), (time.process_time() - cpu) / count * 1000
    print(json.dumps({"a_second": a_second, "cpu_ms": cpu_ms}))


if __name__ == "__main__":
    main()
