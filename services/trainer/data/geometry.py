"""`geometry`: where each detector draws its box in a FER2013 image; the crop of a photo is the inverse."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from services.trainer.data.dataset import Dataset
from services.trainer.errors import DataError
from shared.atomic import write_text
from shared.boxes import CropGeometry, DetectorName
from shared.pictures import BgrImage, GreyImage
from shared.pipeline.crop import framed
from shared.pipeline.detect import Detector

# Detectors miss faces of 48 pixels, and faces that touch the border. Of the borders tried (repeated edge, mirrored,
# plain grey), plain grey let them find most faces, with the least spread.
ENLARGE: Final = 4
MARGIN: Final = 0.5  # of the image's side, on each side


def measure(detectors: Iterable[Detector], data: Dataset, images: int, seed: int = 0) -> dict[str, Any]:
    """Median position and spread of each detector's largest box on `images` training images, as fractions of the side."""
    train = data.split("train")
    rows = np.random.default_rng(seed).choice(len(train), size=min(images, len(train)), replace=False)
    pictures = [_enlarged(face) for face in train.pixels[np.sort(rows)]]
    return {
        "data_sha256": data.sha256,
        "images": len(rows),
        "seed": seed,
        "detectors": {detector.name: _measure_one(detector, pictures) for detector in detectors},
    }


def read_geometry(path: Path) -> dict[DetectorName, CropGeometry]:
    """The crop geometry of each measured detector. Raises DataError when `path` is not such a measurement."""
    try:
        detectors = json.loads(path.read_text(encoding="utf-8"))["detectors"]
        return {name: CropGeometry(**measured["median"]) for name, measured in detectors.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a measurement of `python -m services.trainer geometry`: {error}.") from error


def write_geometry(measured: dict[str, Any], path: Path) -> None:
    """Keep a measurement as JSON, beside those of other detectors on the same images that `path` holds already."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if all(before.get(name) == measured[name] for name in ("data_sha256", "images", "seed")):
        measured = measured | {"detectors": before["detectors"] | measured["detectors"]}
    write_text(path, json.dumps(measured, indent=2) + "\n")


def _enlarged(face: GreyImage) -> BgrImage:
    side = face.shape[0] * ENLARGE
    large = np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    return np.asarray(cv2.cvtColor(framed(large, round(side * MARGIN)), cv2.COLOR_GRAY2BGR), np.uint8)


def _measure_one(detector: Detector, pictures: list[BgrImage]) -> dict[str, Any]:
    boxes = []
    for picture in pictures:
        side = picture.shape[0] / (1 + 2 * MARGIN)
        # A box below a third of the face is a part of it.
        found = [d.box for d in detector.detect(picture, min_confidence=0.6) if d.box.width >= side / 3]
        if found:
            box, margin = found[0], side * MARGIN
            boxes.append(((box.x - margin) / side, (box.y - margin) / side, box.width / side, box.height / side))
    if not boxes:
        raise DataError(f"The detector '{detector.name}' found no face in {len(pictures)} images.")
    table = np.array(boxes)
    names = ("x", "y", "width", "height")
    sides = np.sqrt(table[:, 2] * table[:, 3])
    centres = table[:, :2] + table[:, 2:] / 2
    return {
        "found": round(len(boxes) / len(pictures), 4),
        "median": {name: round(float(value), 4) for name, value in zip(names, np.median(table, axis=0), strict=True)},
        "quartiles": {name: np.percentile(table[:, i], [25, 75]).round(4).tolist() for i, name in enumerate(names)},
        "spread": {  # training's zoom and shift must cover it
            "log_side_sd": round(float(np.log(sides).std()), 4),
            "centre_sd": centres.std(axis=0).round(4).tolist(),
        },
    }
