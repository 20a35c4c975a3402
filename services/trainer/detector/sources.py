"""The packed pictures that scenes are made of: pixels in one file, faces and regions to ignore in another."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from services.trainer.errors import DataError
from shared.pictures import BgrImage

PIXELS_FILE: Final = "pixels.bin"
INDEX_FILE: Final = "index.npz"
REPORT_FILE: Final = "report.json"

Kind: TypeAlias = Literal["people", "faces", "scenes"]
Split: TypeAlias = Literal["training", "calibration", "evaluation"]
KINDS: Final[tuple[Kind, ...]] = ("people", "faces", "scenes")
Faces: TypeAlias = npt.NDArray[np.float32]  # (N, 14): x, y, width, height, then five points x, y; pixels
_CALIBRATION_EVERY: Final = 3
# A mirror image exchanges right and left of the eyes and of the mouth.
MIRRORED_POINTS: Final = (1, 0, 2, 4, 3)
Boxes: TypeAlias = npt.NDArray[np.float32]  # (N, 4): x, y, width, height; pixels


@dataclass(frozen=True, slots=True)
class Source:
    """One picture, its faces, and the boxes of what may be a face."""

    pixels: BgrImage
    faces: Faces
    ignored: Boxes


@dataclass(frozen=True, slots=True)
class Sources:
    """The data of `detector prepare`, opened for reading; pixels stay on the disk until they are asked for."""

    pixels: npt.NDArray[np.uint8]
    pictures: npt.NDArray[np.int64]  # (N, 5): kind, held out, offset, height, width
    faces: npt.NDArray[np.float32]  # (M, 15): picture, then a row of Faces
    ignored: npt.NDArray[np.float32]  # (K, 5): picture, then a row of Boxes
    report: dict[str, Any]

    @classmethod
    def load(cls, directory: Path) -> "Sources":
        """The data in `directory`. Raises DataError when it is missing or damaged."""
        try:
            pixels = np.memmap(directory / PIXELS_FILE, np.uint8, "r")
            with np.load(directory / INDEX_FILE) as index:
                pictures, faces, ignored = index["pictures"], index["faces"], index["ignored"]
            report = json.loads((directory / REPORT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{directory} is not data of `python -m services.trainer detector prepare`: {error}."
            ) from error
        order = np.argsort(faces[:, 0], kind="stable"), np.argsort(ignored[:, 0], kind="stable")
        return cls(pixels, pictures, faces[order[0]], ignored[order[1]], report)

    def of(self, kind: Kind, split: Split = "training") -> npt.NDArray[np.int64]:
        """The numbers of the pictures of one kind and split.

        Of those held out from training, every third sets the threshold, and the others measure what came of it.
        """
        held_out = split != "training"
        chosen = np.flatnonzero((self.pictures[:, 0] == KINDS.index(kind)) & (self.pictures[:, 1] == held_out))
        every_third = np.arange(len(chosen)) % _CALIBRATION_EVERY == 0
        return chosen[every_third == (split == "calibration")] if held_out else chosen

    def __getitem__(self, number: int) -> Source:
        """The picture of this number; its pixels are read-only."""
        _, _, offset, height, width = (int(value) for value in self.pictures[number])
        pixels = self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)
        return Source(np.asarray(pixels), _rows(self.faces, number), _rows(self.ignored, number))


def _rows(table: npt.NDArray[np.float32], number: int) -> npt.NDArray[np.float32]:
    first, last = np.searchsorted(table[:, 0], (number, number + 1))
    return table[first:last, 1:]


def mirrored_faces(faces: Faces, width: int) -> Faces:
    """The faces of a picture `width` pixels wide, in its mirror image."""
    mirrored = faces.copy()
    mirrored[:, 0] = width - faces[:, 0] - faces[:, 2]
    points = faces[:, 4:].reshape(-1, 5, 2)[:, MIRRORED_POINTS]
    mirrored[:, 4:] = np.stack([width - points[..., 0], points[..., 1]], axis=2).reshape(-1, 10)
    return mirrored
