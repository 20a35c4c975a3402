"""Faces without labels, for teachers to label: cut out of photos with the service's own crop, but wider."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import FACE_SIZE_PX
from services.trainer.data.photos import read_photos
from services.trainer.data.sources import FaceFinder
from services.trainer.errors import DataError
from shared.atomic import atomic_file
from shared.errors import ImageError
from shared.pictures import ImageLimits
from shared.pipeline.decode import decode

# The middle is the face as served; the pixels around it let training shift and zoom out over real pixels.
WIDE_SIZE_PX: Final = 64


@dataclass(frozen=True, slots=True)
class Faces:
    """Unlabeled faces, each (64, 64) with the served 48x48 in its middle, at the same scale."""

    pixels: npt.NDArray[np.uint8]  # (N, 64, 64)
    name: str  # what cards call them

    @property
    def middle(self) -> npt.NDArray[np.uint8]:
        """The faces as they are served, (N, 48, 48)."""
        start = (WIDE_SIZE_PX - FACE_SIZE_PX) // 2
        return self.pixels[:, start : start + FACE_SIZE_PX, start : start + FACE_SIZE_PX]

    @property
    def sha256(self) -> str:
        """Identifies the content."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        with atomic_file(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, pixels=self.pixels, name=np.array(self.name))

    @classmethod
    def load(cls, path: Path) -> "Faces":
        """Read what `save` wrote. Raises DataError when it is missing or is something else."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                faces = cls(stored["pixels"], str(stored["name"]))
        except FileNotFoundError as error:
            raise DataError(f"There is no file {path}. Make it with `python -m services.trainer faces`.") from error
        except Exception as error:  # numpy and zlib raise whatever the damage leads them to
            raise DataError(f"{path} is not a file of `faces`, or is damaged ({error}).") from error
        if faces.pixels.dtype != np.uint8 or faces.pixels.shape[1:] != (WIDE_SIZE_PX, WIDE_SIZE_PX):
            raise DataError(f"{path} holds {faces.pixels.shape} {faces.pixels.dtype}, not (N, 64, 64) uint8.")
        return faces


@dataclass(frozen=True, slots=True)
class Found:
    """Counts of an archive: photos read, and those left out as damaged or without a face."""

    read: int
    damaged: int
    without_face: int


def collect_faces(
    archive: Path, finder: FaceFinder, name: str, progress: Callable[[list[bytes]], Iterable[bytes]] = iter
) -> tuple[Faces, Found]:
    """The largest face of each photo in a folder or .zip, in the order of their names.

    Raises DataError when the archive is missing or damaged, or when there is no face in it.
    """
    photos = [data for _, data in read_photos(archive)]
    kept, damaged, without_face = [], 0, 0
    for data in progress(photos):
        try:
            face = finder.face(decode(data, ImageLimits()), WIDE_SIZE_PX)
        except ImageError:
            damaged += 1
            continue
        if face is None:
            without_face += 1
        else:
            kept.append(face)
    if not kept:
        raise DataError(f"{archive} has no face in it ({len(photos)} photos read, {damaged} damaged).")
    return Faces(np.stack(kept), name), Found(len(photos), damaged, without_face)
