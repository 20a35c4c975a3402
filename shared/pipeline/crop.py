"""A detector's box in, the square out in which the face lies as faces lie in FER2013."""

import math
from dataclasses import dataclass

import numpy as np

from shared.pipeline.decode import BgrImage, GrayImage


@dataclass(frozen=True, slots=True)
class Box:
    """A face as a detector draws it, in pixels of the image; it may reach past the border."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """Where a detector's box lies inside a FER2013 image (median, in fractions of its side).

    Each detector draws its boxes differently; the crop is the inverse of what was measured for it.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Square:
    """The part of the image that is classified, in whole pixels; it may reach past the border."""

    x: int
    y: int
    side: int


# A picture that already is one face: the square is the picture.
WHOLE = CropGeometry(0.0, 0.0, 1.0, 1.0)


def square_around(box: Box, geometry: CropGeometry) -> Square:
    """The square of FER2013's framing around a detector's box.

    The side is the geometric mean of what width and height ask for; both are centred.
    """
    side = math.sqrt((box.width / geometry.width) * (box.height / geometry.height))
    left = box.x + box.width / 2 - (geometry.x + geometry.width / 2) * side
    top = box.y + box.height / 2 - (geometry.y + geometry.height / 2) * side
    return Square(round(left), round(top), max(1, round(side)))


def square_over(width: int, height: int) -> Square:
    """The smallest square that holds a whole picture of (height, width), centred."""
    side = max(width, height)
    return Square((width - side) // 2, (height - side) // 2, side)


def crop(image: BgrImage | GrayImage, square: Square) -> BgrImage | GrayImage:
    """The pixels of `square`, (side, side[, 3]) uint8; beyond the border the edge is repeated, nothing is shifted."""
    height, width = image.shape[:2]
    bottom, right = square.y + square.side, square.x + square.side
    if square.x >= 0 and square.y >= 0 and right <= width and bottom <= height:
        return image[square.y : bottom, square.x : right]
    rows = np.arange(square.y, bottom).clip(0, height - 1)
    columns = np.arange(square.x, right).clip(0, width - 1)
    return np.asarray(image[np.ix_(rows, columns)], np.uint8)
