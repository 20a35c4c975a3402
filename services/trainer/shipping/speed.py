"""Size and speed of two ONNX models, measured alternately in one run, so that their ratio is comparable across machines."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

_ROUNDS: Final = 15
_CALLS: Final = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a smaller model saves: bytes, and milliseconds per face on one thread."""

    bytes: tuple[int, int]
    ms_per_face: tuple[float, float]

    @property
    def size_ratio(self) -> float:
        return self.bytes[1] / self.bytes[0]

    @property
    def time_ratio(self) -> float:
        return self.ms_per_face[1] / self.ms_per_face[0]

    def as_dict(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "bytes": list(self.bytes),
            "ms_per_face_one_thread": [round(value, 3) for value in self.ms_per_face],
            "size_ratio": round(self.size_ratio, 3),
            "time_ratio": round(self.time_ratio, 3),
        }


def compare_speed(before: Path, after: Path) -> Comparison:
    """Compare two ONNX files that take the same faces."""
    sessions = [_open(path) for path in (before, after)]
    times: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for session, collected in zip(sessions, times, strict=True):
            collected.append(_one_round(session))
    medians = [float(np.median(collected)) for collected in times]
    return Comparison((before.stat().st_size, after.stat().st_size), (medians[0], medians[1]))


def _open(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _one_round(session: Any) -> float:
    entry = session.get_inputs()[0]
    face = np.zeros((1, *entry.shape[1:]), np.float32)
    started = time.perf_counter()
    for _ in range(_CALLS):
        session.run(None, {entry.name: face})
    return (time.perf_counter() - started) / _CALLS * 1000
