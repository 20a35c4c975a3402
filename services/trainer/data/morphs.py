"""New faces made out of known ones, for teachers to label: FER2013 has few faces that look afraid or disgusted.

Half of them join the eyes of one face to the mouth of another, a third blend two faces, and the rest show one face; all
are bent a little. So a student learns what its teachers say of new faces, not only of those they were trained on.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import FACE_SIZE_PX, Dataset, square_root_chances
from services.trainer.data.faces import WIDE_SIZE_PX, Faces

_JOINED: Final = 1 / 2
_BLENDED: Final = 1 / 3
_SEAM: Final = (0.45, 0.62)  # of the height: between the eyes and the mouth
_SEAM_SOFTNESS_PX: Final = 2.0
_BEND_PX: Final = 1.3  # standard deviation of a control point's move
_BEND_POINTS: Final = 5  # control points a side


def morph_faces(data: Dataset, count: int, seed: int, beside: Faces | None = None) -> Faces:
    """Make `count` new faces out of the training split, and put them after those of `beside`.

    Rare classes are drawn more often: each in proportion to the square root of its frequency.
    """
    train = data.split("train")
    train = train.part(~train.not_a_face)
    rng = np.random.default_rng(seed)
    first, second = rng.choice(len(train), (2, count), p=square_root_chances(train.labels))
    pixels = [_wide(_morph(train.pixels[a], train.pixels[b], rng)) for a, b in zip(first, second, strict=True)]
    morphed = Faces(np.stack(pixels), f"morphed {data.name}")
    if beside is None:
        return morphed
    return Faces(np.concatenate([beside.pixels, morphed.pixels]), f"{beside.name} and {morphed.name}")


def _morph(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    if rng.random() < 0.5:
        one = one[:, ::-1]
    face = _bend(one.astype(np.float32), rng)
    kind = rng.random()
    if kind < _JOINED + _BLENDED:
        second = _bend(other.astype(np.float32), rng)
        second = (second - second.mean()) * (face.std() + 1) / (second.std() + 1) + face.mean()
        share = _below_a_seam(rng) if kind < _JOINED else np.float32(rng.uniform(0.2, 0.5))
        face = (1 - share) * face + share * second
    return np.clip(face, 0, 255).astype(np.uint8)


def _below_a_seam(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(48, 1) how much of the second face each row shows: none above the seam, all below."""
    seam = rng.uniform(*_SEAM) * FACE_SIZE_PX
    return np.asarray(1 / (1 + np.exp((seam - np.arange(FACE_SIZE_PX)) / _SEAM_SOFTNESS_PX)), np.float32)[:, None]


def _bend(face: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Move a coarse grid of points at random, and the pixels between them smoothly."""
    moves = rng.normal(0, _BEND_PX, (_BEND_POINTS, _BEND_POINTS, 2)).astype(np.float32)
    smooth = cv2.resize(moves, (FACE_SIZE_PX, FACE_SIZE_PX), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[:FACE_SIZE_PX, :FACE_SIZE_PX].astype(np.float32)
    bent = cv2.remap(
        face, columns + smooth[..., 0], rows + smooth[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(bent, np.float32)


def _wide(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    margin = (WIDE_SIZE_PX - FACE_SIZE_PX) // 2
    return np.pad(face, margin, mode="edge")
