"""Distillation: what trained models say of faces, as part of a new network's targets (Hinton et al. 2015).

`teach` lets each teacher read several views of every face, shifted, scaled and mirrored, and keeps the mean: the
student learns in one reading what its teachers say in many.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import FACE_SIZE_PX, Dataset, Targets
from services.trainer.data.faces import Faces
from services.trainer.errors import DataError
from services.trainer.training.ancestry import source_of
from services.trainer.training.predictors import HEADS, Answers, Predict, for_head, open_predictor
from shared.atomic import atomic_file
from shared.manifest import Source
from shared.pipeline.preprocess import mirror_image

# Scale, shift (share of the side) and whether it is mirrored, of each view that teachers look at.
_VIEWS: Final = ((0.96, 0.02, -0.02, False), (1.04, -0.02, 0.02, True))
_CHUNK: Final = 4096


@dataclass(frozen=True, slots=True)
class Taught:
    """What teachers say: (N, 2, 7) for the training split, labels then people, and (M, 2, 7) for unlabeled faces."""

    train: Targets
    faces: Targets
    data_sha256: str
    faces_sha256: str  # empty without such faces
    teachers: tuple[Source, ...]

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        teachers = [teacher.model_dump() for teacher in self.teachers]
        told = json.dumps({"data_sha256": self.data_sha256, "faces_sha256": self.faces_sha256, "teachers": teachers})
        with atomic_file(path) as beside, beside.open("wb") as file:
            half = {"train": self.train.astype(np.float16), "faces": self.faces.astype(np.float16)}
            np.savez_compressed(file, allow_pickle=False, about=np.array(told), **half)

    @classmethod
    def load(cls, path: Path, data: Dataset, faces: Faces | None) -> "Taught":
        """Read what `save` wrote for these faces. Raises DataError when it is missing, damaged or of other faces."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                about: dict[str, Any] = json.loads(str(stored["about"]))
                train, other = (stored[name].astype(np.float32) for name in ("train", "faces"))
                teachers = tuple(Source.model_validate(teacher) for teacher in about["teachers"])
        except FileNotFoundError as error:
            raise DataError(f"There is no file {path}. Make it with `python -m services.trainer teach`.") from error
        except Exception as error:  # numpy and zlib raise whatever the damage leads them to
            raise DataError(f"{path} is not a file of `teach`, or is damaged ({error}).") from error
        for what, theirs, ours in (
            ("data file", about["data_sha256"], data.sha256),
            ("unlabeled faces", about["faces_sha256"], faces.sha256 if faces else ""),
        ):
            if theirs != ours:
                raise DataError(f"{path} was made for other {what}. Run `teach` with the ones you train on.")
        return cls(train, other, about["data_sha256"], about["faces_sha256"], teachers)


def teach(
    teachers: Sequence[Path],
    data: Dataset,
    faces: Faces | None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Taught:
    """The mean of what `teachers`, runs or model directories, say of several views of each face.

    A teacher with one answer gives it to both. Raises ModelError or WorkdirError when one holds no model.
    """
    readers = [open_predictor(teacher) for teacher in teachers]
    known = tuple(source_of(teacher) for teacher in teachers)
    train = data.split("train").pixels
    said_train = _said(readers, train, progress)
    wide = faces.pixels if faces else np.empty((0, FACE_SIZE_PX, FACE_SIZE_PX), np.uint8)
    said_faces = _said(readers, wide, progress)
    return Taught(said_train, said_faces, data.sha256, faces.sha256 if faces else "", known)


def together(teachers: Sequence[Path], faces: npt.NDArray[np.uint8]) -> Answers:
    """The mean of what `teachers` say of `faces`, (N, 48, 48), as `teach` takes it."""
    said = _said([open_predictor(teacher) for teacher in teachers], faces, iter)
    return {name: said[:, number] for number, name in enumerate(HEADS)}


def _said(
    readers: Sequence[Predict], faces: npt.NDArray[np.uint8], progress: Callable[[Sequence[int]], Iterable[int]]
) -> Targets:
    """(N, 2, 7) the mean over readers and views."""
    said = np.zeros((len(faces), 2, 7), np.float32)
    for start in progress(range(0, len(faces), _CHUNK)):
        chunk = slice(start, start + _CHUNK)
        for reader in readers:
            for seen in _views(faces[chunk]):
                answers = reader(seen)
                said[chunk] += np.stack([for_head(answers, name) for name in HEADS], axis=1)
    return said / np.float32(len(readers) * len(_VIEWS))


def _views(faces: npt.NDArray[np.uint8]) -> Iterable[npt.NDArray[np.uint8]]:
    """Each view of all faces, (N, 48, 48); faces may be wider, with the served part in their middle."""
    centre, middle = (FACE_SIZE_PX - 1) / 2, (faces.shape[1] - 1) / 2
    for zoom, right, down, mirrored in _VIEWS:
        place = np.array(
            [
                [zoom, 0, centre + right * FACE_SIZE_PX - zoom * middle],
                [0, zoom, centre + down * FACE_SIZE_PX - zoom * middle],
            ]
        )
        seen = np.stack(
            [cv2.warpAffine(f, place, (FACE_SIZE_PX, FACE_SIZE_PX), borderMode=cv2.BORDER_REPLICATE) for f in faces]
        ).astype(np.uint8)
        yield mirror_image(seen) if mirrored else seen
