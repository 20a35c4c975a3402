"""`detector prepare`: photos in, packed pictures with the faces that YuNet sees in them out."""

import json
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.detector.archives import Progress, pictures
from services.trainer.detector.sources import (
    INDEX_FILE,
    KINDS,
    PIXELS_FILE,
    REPORT_FILE,
    Boxes,
    Faces,
    Kind,
    mirrored_faces,
)
from shared.atomic import atomic_directory, write_text
from shared.manifest import sha256_of
from shared.pictures import BgrImage
from shared.pipeline.yunet import open_yunet

# A face is taught where YuNet is this sure of it in the picture and in its mirror image, and both agree on the place.
SURE: Final = 0.75
# What it sees with less confidence, or only once, counts neither as a face nor as none.
POSSIBLE: Final = 0.3
SAME_IOU: Final = 0.6
# Photos are enlarged for YuNet; faces that fill their picture get room around them.
ENLARGE: Final[dict[Kind, float]] = {"people": 1.25, "faces": 1.5, "scenes": 2.0}
MARGIN: Final[dict[Kind, float]] = {"people": 0.1, "faces": 0.3, "scenes": 0.0}
MID_GREY: Final = 128
HELD_OUT_EVERY: Final[dict[Kind, int]] = {"people": 20, "faces": 60, "scenes": 4}

Scores: TypeAlias = npt.NDArray[np.float32]  # (N,)


class Labeller(Protocol):
    """Says where faces are."""

    @property
    def hashes(self) -> dict[str, str]:
        """The files it is made of, by name and sha256."""
        ...

    def label(self, image: BgrImage, kind: Kind) -> tuple[Faces, Boxes]:
        """The sure faces of a picture, (N, 14), and boxes (M, 4) of what may be a face."""
        ...


class YuNetLabeller:
    """YuNet with a low threshold, on an enlarged picture and on its mirror image."""

    def __init__(self, model: Path) -> None:
        """`model`: the published .onnx. Raises DetectorError when it cannot be used."""
        self._detector = open_yunet(model, 4096)
        self.hashes = {model.name: sha256_of(model)}

    def label(self, image: BgrImage, kind: Kind) -> tuple[Faces, Boxes]:
        scale, margin = ENLARGE[kind], round(MARGIN[kind] * max(image.shape[:2]))
        framed = cv2.copyMakeBorder(image, *(margin,) * 4, cv2.BORDER_CONSTANT, value=(MID_GREY,) * 3)
        large = np.asarray(cv2.resize(framed, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
        seen, scores = self._see(large)
        reflected, other_scores = self._see(np.asarray(cv2.flip(large, 1), np.uint8))
        mirrored = mirrored_faces(reflected, large.shape[1])
        for rows in (seen, mirrored):
            rows /= scale
            rows[:, [0, 1, *range(4, 14)]] -= margin
        return _agreed(seen, mirrored, scores, other_scores)

    def _see(self, image: BgrImage) -> tuple[Faces, Scores]:
        found = self._detector.detect(image, POSSIBLE)
        rows = [(f.box.x, f.box.y, f.box.width, f.box.height, *chain(*(f.landmarks or ()))) for f in found]
        return np.array(rows, np.float32).reshape(-1, 14), np.array([f.confidence for f in found], np.float32)


def _agreed(seen: Faces, mirrored: Faces, scores: Scores, mirrored_scores: Scores) -> tuple[Faces, Boxes]:
    faces, possible, matched = [], [], set()
    for row, score in zip(seen, scores, strict=True):
        overlaps = iou(row[:4], mirrored[:, :4]) if len(mirrored) else np.zeros(1)
        best = int(overlaps.argmax())
        if overlaps[best] >= SAME_IOU:
            matched.add(best)
            if score >= SURE and mirrored_scores[best] >= SURE:
                faces.append((row + mirrored[best]) / 2)
                continue
        possible.append(row[:4])
    possible += [row[:4] for number, row in enumerate(mirrored) if number not in matched]
    return np.array(faces, np.float32).reshape(-1, 14), np.array(possible, np.float32).reshape(-1, 4)


def iou(box: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Intersection over union of one box (4,) with each of (N, 4); x, y, width, height."""
    near = np.maximum(box[:2], boxes[:, :2])
    far = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    common = np.clip(far - near, 0, None).prod(axis=1)
    return np.asarray(common / (box[2] * box[3] + boxes[:, 2:].prod(axis=1) - common), np.float32)


@dataclass(slots=True)
class _Pack:
    file: IO[bytes]
    offset: int = 0
    pictures: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    faces: list[npt.NDArray[np.float32]] = field(default_factory=list)
    ignored: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def add(self, image: BgrImage, kind: Kind, held_out: bool, labels: tuple[Faces, Boxes]) -> None:
        number = len(self.pictures)
        height, width = image.shape[:2]
        self.pictures.append((KINDS.index(kind), held_out, self.offset, height, width))
        self.file.write(image.tobytes())
        self.offset += image.size
        for rows, table in zip(labels, (self.faces, self.ignored), strict=True):
            table.append(np.hstack([np.full((len(rows), 1), number, np.float32), rows]))


def prepare(
    archives: dict[Kind, Path], labeller: Labeller, directory: Path, progress: Progress = iter
) -> dict[str, Any]:
    """Label and pack the pictures of zip archives into `directory`; the report that is kept with them.

    A picture of kind "faces" in which YuNet is sure of no face is left out; other kinds may have none. Raises DataError
    when an archive cannot be read.
    """
    counts: dict[str, dict[str, int]] = {
        kind: {"pictures": 0, "left_out": 0, "faces": 0, "unsure": 0} for kind in KINDS
    }
    with atomic_directory(directory) as new:
        with (new / PIXELS_FILE).open("wb") as file:
            pack = _Pack(file)
            for kind, archive in archives.items():
                for number, image in enumerate(pictures(archive, progress)):
                    faces, possible = labeller.label(image, kind)
                    count = counts[kind]
                    if kind == "faces" and len(faces) == 0:
                        count["left_out"] += 1
                        continue
                    held_out = number % HELD_OUT_EVERY[kind] == 0
                    pack.add(image, kind, held_out, (faces, possible))
                    count["pictures"] += 1
                    count["faces"] += len(faces)
                    count["unsure"] += len(possible)
        np.savez(
            new / INDEX_FILE,
            pictures=np.array(pack.pictures, np.int64),
            faces=np.vstack(pack.faces),
            ignored=np.vstack(pack.ignored),
        )
        hashes = {path.name: sha256_of(path) for path in archives.values()} | labeller.hashes
        report = {"sources_sha256": hashes, "counts": counts}
        write_text(new / REPORT_FILE, json.dumps(report, indent=2) + "\n")
    return report
