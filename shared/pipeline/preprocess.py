"""A cropped face in, the network's input out: the same function in training and in serving."""

from typing import TypeAlias, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from shared.pictures import BgrImage, GreyImage
from shared.pipeline.crop import crop, square_over, to_grey

FaceBatch: TypeAlias = npt.NDArray[np.float32]  # (N, size, size, 1), 0 to 1
_Pixel = TypeVar("_Pixel", bound=np.generic)


def to_face(crop: BgrImage | GreyImage, size_px: int) -> GreyImage:
    """A square crop as a grey face of (size_px, size_px) uint8, as FER2013 stores them.

    Shrinking averages over areas: fine texture would otherwise alias into noise at 48 pixels.
    """
    grey = to_grey(crop)
    if grey.shape == (size_px, size_px):
        return grey
    shrinks = max(grey.shape) > size_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, (size_px, size_px), interpolation=interpolation), np.uint8)


def whole_as_face(picture: BgrImage | GreyImage, size_px: int) -> GreyImage:
    """A picture that is itself one face, as (size_px, size_px) uint8: the longer side fits, the shorter is padded with its edge.

    Shrunk first, then padded: a long strip must not become a huge square.
    """
    height, width = picture.shape[:2]
    scale = size_px / max(height, width)
    grey = to_grey(picture)
    if scale != 1:
        fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        grey = np.asarray(cv2.resize(grey, fitted, interpolation=interpolation), np.uint8)
    return crop(grey, square_over(grey.shape[1], grey.shape[0]))


def to_input(faces: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> FaceBatch:
    """Faces (N, size, size) in 0 to 255 as the network reads them: (N, size, size, 1) divided by 255 (paper, 2)."""
    return (faces.astype(np.float32) / np.float32(255))[..., np.newaxis]


def mirror_image(faces: npt.NDArray[_Pixel]) -> npt.NDArray[_Pixel]:
    """Faces (N, size, size) or (N, size, size, 1) with left and right exchanged."""
    return np.ascontiguousarray(faces[:, :, ::-1])
