"""Schematic faces with seven expressions, drawn: real enough to learn from, and nobody's."""

import csv
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.data.sources import CSV_EMOTIONS

SIZE = 48
_ENLARGED = 4  # drawn large, then shrunk: smooth lines

# mouth: curve (+ smiles), opening; brows: slope (+ inner ends low), lift; eyes: opening
_EXPRESSIONS = {
    "angry": {"curve": -0.3, "open": 0.0, "slope": 0.5, "lift": -0.3, "eyes": 0.7},
    "disgust": {"curve": -0.9, "open": 0.0, "slope": 0.2, "lift": -0.5, "eyes": 0.35},
    "fear": {"curve": -0.5, "open": 0.5, "slope": -0.5, "lift": 0.6, "eyes": 1.3},
    "happy": {"curve": 1.0, "open": 0.1, "slope": 0.0, "lift": 0.1, "eyes": 0.8},
    "neutral": {"curve": 0.0, "open": 0.0, "slope": 0.0, "lift": 0.0, "eyes": 0.9},
    "sad": {"curve": -0.8, "open": 0.0, "slope": -0.5, "lift": 0.1, "eyes": 0.7},
    "surprise": {"curve": 0.0, "open": 1.2, "slope": 0.0, "lift": 0.9, "eyes": 1.4},
}


def draw_face(emotion: str, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A face (48, 48) uint8, a little different each time."""
    look = {name: value + rng.normal(0, 0.05) for name, value in _EXPRESSIONS[emotion].items()}
    side = SIZE * _ENLARGED
    skin, ink = int(rng.integers(150, 230)), int(rng.integers(10, 60))
    face = np.full((side, side), int(rng.integers(60, 110)), np.uint8)
    cx, cy = side / 2 + rng.normal(0, 3), side / 2 + rng.normal(0, 3)
    cv2.ellipse(face, (int(cx), int(cy)), (int(side * 0.4), int(side * 0.47)), 0, 0, 360, skin, -1)
    for direction in (-1, 1):
        x, y = cx + direction * side * 0.17, cy - side * 0.1
        cv2.ellipse(face, (int(x), int(y)), (14, max(3, int(11 * look["eyes"]))), 0, 0, 360, 245, -1)
        cv2.circle(face, (int(x), int(y)), 6, ink, -1)
        inner, outer = x - direction * 18, x + direction * 18
        brow = y - 24 - 10 * look["lift"]
        cv2.line(
            face, (int(inner), int(brow + 12 * look["slope"])), (int(outer), int(brow - 8 * look["slope"])), ink, 5
        )
    mouth = cy + side * 0.24
    if look["open"] > 0.3:
        cv2.ellipse(face, (int(cx), int(mouth)), (20, int(18 * look["open"])), 0, 0, 360, ink, -1)
    else:
        xs = np.linspace(-30, 30, 13)
        ys = mouth + 14 * look["curve"] * (1 - (xs / 30) ** 2) - 7 * look["curve"]
        points = np.stack([xs + cx, ys], axis=1).astype(np.int32)
        cv2.polylines(face, [points], False, ink, 6)
    small = cv2.resize(face, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(small + rng.normal(0, 3, small.shape), 0, 255), np.uint8)


def write_csv(path: Path, per_class: dict[str, int], seed: int = 0) -> Path:
    """A CSV in FER2013's form with so many drawn faces of each class in each Usage."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for usage, count in per_class.items():
            for _ in range(count):
                for number, emotion in enumerate(CSV_EMOTIONS):
                    pixels = " ".join(map(str, draw_face(emotion, rng).ravel()))
                    writer.writerow([number, pixels, usage])
    return path
