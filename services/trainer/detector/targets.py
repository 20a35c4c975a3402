"""A scene's faces in, what each cell of the network should answer out."""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from services.trainer.detector.network import STRIDES
from services.trainer.detector.sources import Boxes, Faces

# A cell's target: is there a face, weight of the score, weight of the place, then box and points as the network
# answers them.
TARGETS: Final = 17
Targets: TypeAlias = npt.NDArray[np.float32]  # (cells, 17)

# Which faces each stride answers, in pixels (the root of the box's area). Where two overlap, both do.
SIZES_PX: Final = ((0.0, 44.0), (26.0, 110.0), (66.0, 1e9))
# How far from a face's centre cells answer for it: a share of the face, within bounds in strides.
CENTRE: Final = 0.25
CENTRE_STRIDES: Final = (0.75, 1.5)  # the first reaches a cell from every corner
# Around these cells, and on a neighbouring stride whose sizes nearly include the face, no answer is wrong.
RING: Final = 0.42
NEARLY: Final = 1.5


@dataclass(frozen=True, slots=True)
class Cells:
    """The centres (cells, 2) and strides (cells,) of a picture of (height, width), as the network orders its answers."""

    centres: npt.NDArray[np.float32]
    strides: npt.NDArray[np.float32]

    @classmethod
    def of(cls, height: int, width: int) -> "Cells":
        """The cells of a picture whose sides are multiples of 32."""
        centres, strides = [], []
        for stride in STRIDES:
            rows, columns = np.mgrid[0 : height // stride, 0 : width // stride].reshape(2, -1)
            centres.append((np.stack([columns, rows], axis=1) + 0.5) * stride)
            strides.append(np.full(len(rows), stride))
        return cls(np.concatenate(centres).astype(np.float32), np.concatenate(strides).astype(np.float32))


def targets(cells: Cells, faces: Faces, ignored: Boxes) -> Targets:
    """What the cells should answer, (cells, 17).

    All cells near a face's centre answer for it, on the strides for its size. Their weights for box and points sum to
    one, so each face weighs the same there.
    """
    count = len(cells.strides)
    table = np.zeros((count, TARGETS), np.float32)
    table[:, 1] = 1
    table[inside(cells, ignored), 1] = 0
    if len(faces) == 0:
        return table
    size = np.sqrt(faces[:, 2] * faces[:, 3])
    middle = np.asarray(faces[:, :2] + faces[:, 2:4] / 2, np.float32)
    offset = cells.centres[:, np.newaxis] - middle  # (cells, faces, 2)
    distance = np.hypot(offset[..., 0] / faces[:, 2], offset[..., 1] / faces[:, 3])  # in sides of the face
    answers, nearly = _by_stride(cells, size)
    reach = np.clip(
        CENTRE * size,
        CENTRE_STRIDES[0] * cells.strides[:, np.newaxis],
        CENTRE_STRIDES[1] * cells.strides[:, np.newaxis],
    )
    near = answers & (np.hypot(offset[..., 0], offset[..., 1]) <= reach)
    around = nearly & (distance < np.maximum(RING, 1.2 * reach / size))
    table[around.any(axis=1), 1] = 0
    owner = np.where(near, distance, np.inf).argmin(axis=1)
    positive = np.flatnonzero(near.any(axis=1))
    _teach(table, positive, owner[positive], faces, middle, cells)
    return table


def _by_stride(cells: Cells, size: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    bounds = np.array(SIZES_PX, np.float32)[np.searchsorted(STRIDES, cells.strides)]
    least, most = bounds[:, :1], bounds[:, 1:]
    answers = (size >= least) & (size <= most)
    return answers, (size >= least / NEARLY) & (size <= most * NEARLY)


def _teach(
    table: Targets,
    positive: npt.NDArray[np.intp],
    owner: npt.NDArray[np.intp],
    faces: Faces,
    middle: npt.NDArray[np.float32],
    cells: Cells,
) -> None:
    stride = cells.strides[positive, np.newaxis]
    centre = cells.centres[positive]
    table[positive, 0] = 1
    table[positive, 1] = 1
    table[positive, 2] = 1 / np.bincount(owner, minlength=len(faces))[owner]
    table[positive, 3:5] = (middle[owner] - centre) / stride
    table[positive, 5:7] = np.log(faces[owner, 2:4] / stride)
    points = faces[owner, 4:].reshape(-1, 5, 2) - centre[:, np.newaxis]
    table[positive, 7:] = (points / stride[:, np.newaxis]).reshape(-1, 10)


def inside(cells: Cells, boxes: Boxes) -> npt.NDArray[np.bool_]:
    """Which cells have their centre in one of `boxes`, (cells,)."""
    if len(boxes) == 0:
        return np.zeros(len(cells.strides), np.bool_)
    near, far = boxes[:, :2] - 2, boxes[:, :2] + boxes[:, 2:] + 2
    points = cells.centres[:, np.newaxis]
    within = np.logical_and(points >= near, points <= far)
    return np.asarray(np.logical_and(within[..., 0], within[..., 1]).any(axis=1))
