"""A detector's box in, the square around the face out, framed as the faces of FER2013 are."""

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from shared.boxes import Box, CropGeometry
from shared.pictures import BgrImage, GreyImage

MID_GREY: Final = 128
_AS_IT_IS_DEG: Final = 5.0
_UPRIGHT_DEG: Final = 15.0
_TURNED_PX: Final = 192.0  # four times what is read


@dataclass(frozen=True, slots=True)
class Square:
    """The part of the image that is classified, in whole pixels; it may extend past the border."""

    x: int
    y: int
    side: int


def square_around(box: Box, geometry: CropGeometry) -> Square:
    """The square of FER2013's framing around a detector's box.

    The side is the geometric mean of the sides that width and height call for; both are centred.
    """
    side = _side(box, geometry)
    left = box.x + box.width / 2 - (geometry.x + geometry.width / 2) * side
    top = box.y + box.height / 2 - (geometry.y + geometry.height / 2) * side
    return Square(round(left), round(top), max(1, round(side)))


def square_over(width: int, height: int) -> Square:
    """The smallest square that holds a whole picture of (height, width), centred."""
    side = max(width, height)
    return Square((width - side) // 2, (height - side) // 2, side)


def to_grey(image: BgrImage | GreyImage) -> GreyImage:
    """(H, W) uint8 of an image in colour or grey."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8) if image.ndim == 3 else image


def crop(image: BgrImage | GreyImage, square: Square) -> BgrImage | GreyImage:
    """The pixels of `square`, (side, side[, 3]) uint8; beyond the border the edge is repeated, nothing is shifted."""
    height, width = image.shape[:2]
    # The part that lies inside; a square outside has the nearest row or column.
    left, right = min(max(square.x, 0), width - 1), min(max(square.x + square.side, 1), width)
    top, bottom = min(max(square.y, 0), height - 1), min(max(square.y + square.side, 1), height)
    inside = image[top:bottom, left:right]
    if inside.shape[:2] == (square.side, square.side):
        return inside
    before, above = (min(max(-at, 0), square.side - 1) for at in (square.x, square.y))
    after, below = square.side - before - (right - left), square.side - above - (bottom - top)
    return np.asarray(cv2.copyMakeBorder(inside, above, below, before, after, cv2.BORDER_REPLICATE), np.uint8)


def turn_back(roll_deg: float) -> float:
    """By how much a face turned by `roll_deg` is turned back before it is read, in degrees (docs/adr/0007).

    Not at all up to 5 degrees, wholly from 15, and in proportion between: with a single limit, a small change near it
    would turn the whole crop.
    """
    share = (abs(roll_deg) - _AS_IT_IS_DEG) / (_UPRIGHT_DEG - _AS_IT_IS_DEG)
    return math.copysign(min(abs(roll_deg), _UPRIGHT_DEG * max(share, 0.0)), roll_deg)


def cut_face(
    image: BgrImage | GreyImage, box: Box, roll_deg: float | None, geometry: CropGeometry, margin: float = 0.0
) -> BgrImage | GreyImage:
    """The face of a detector's `box`, a square in colour or grey, framed as FER2013 frames it, turned by `turn_back`.

    `margin`, in shares of that frame's side, is added on each side.
    """
    whole = 1 + 2 * margin
    wide = CropGeometry(
        (geometry.x + margin) / whole, (geometry.y + margin) / whole, geometry.width / whole, geometry.height / whole
    )
    turn_deg = turn_back(roll_deg or 0.0)
    return crop_turned(image, box, wide, turn_deg) if turn_deg else crop(image, square_around(box, wide))


def crop_turned(image: BgrImage | GreyImage, box: Box, geometry: CropGeometry, turn_deg: float) -> GreyImage:
    """The square of FER2013's framing, (side, side) uint8 in grey, in which a head turned by `turn_deg` is upright.

    Turning costs more than shrinking, so a face of over twice _TURNED_PX is shrunk to that first.
    """
    side = _side(box, geometry)
    cosine, sine = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    turn = np.array([[cosine, -sine], [sine, cosine]])  # of the square's pixels into the image
    offset = np.array([0.5 - geometry.x - geometry.width / 2, 0.5 - geometry.y - geometry.height / 2]) * side
    middle = np.array([box.x + box.width / 2, box.y + box.height / 2]) + turn @ offset
    reach = math.ceil(side * (abs(cosine) + abs(sine)) / 2) + 2  # around the turned square, and what is read beside it
    around = Square(math.floor(middle[0]) - reach, math.floor(middle[1]) - reach, 2 * reach)
    grey = to_grey(crop(image, around))
    size = around.side
    if side > 2 * _TURNED_PX:
        size = round(size * _TURNED_PX / side)
        grey = np.asarray(cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    scale = size / around.side
    middle = (middle - (around.x, around.y)) * scale
    pixels = max(1, round(side * scale))
    first = (1 - pixels) / 2  # the middle of the first pixel, from the middle of the square
    corner = middle - 0.5 + turn @ np.array([first, first])
    return np.asarray(
        cv2.warpAffine(
            grey,
            np.hstack([turn, corner[:, np.newaxis]]),
            (pixels, pixels),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )


def _side(box: Box, geometry: CropGeometry) -> float:
    """The geometric mean of what width and height ask for."""
    return math.sqrt((box.width / geometry.width) * (box.height / geometry.height))


def framed(image: BgrImage | GreyImage, margin: int) -> BgrImage | GreyImage:
    """The image with `margin` pixels of mid-grey on each side, (H + 2 margin, W + 2 margin[, 3]) uint8."""
    grey = (MID_GREY, MID_GREY, MID_GREY)
    wide = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=grey)
    return np.asarray(wide, np.uint8)
