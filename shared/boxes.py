"""Boxes around faces, and how each detector draws them."""

import math
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

DetectorName: TypeAlias = Literal["haar", "yunet", "mien"]


class Rectangle(Protocol):
    """Anything with a position and a size, in pixels."""

    @property
    def x(self) -> float: ...

    @property
    def y(self) -> float: ...

    @property
    def width(self) -> float: ...

    @property
    def height(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Box:
    """A face as a detector draws it, in pixels of the image; it may extend past the border."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A face in whole pixels of the displayed image, inside it."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """Where a detector's box lies inside a FER2013 image (median, in fractions of its side).

    Each detector draws its boxes differently; the crop is the inverse of what was measured for it.
    """

    x: float
    y: float
    width: float
    height: float


Point: TypeAlias = tuple[float, float]  # x, y
Landmarks: TypeAlias = tuple[Point, Point, Point, Point, Point]  # in the order of POINTS
POINTS: Final = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")  # the person's own right and left


def roll_deg(landmarks: Landmarks) -> float:
    """How far a head is turned in the picture, by its eyes: 0 is upright, 90 a quarter clockwise; -180 to 180."""
    (right_x, right_y), (left_x, left_y) = landmarks[:2]
    return math.degrees(math.atan2(left_y - right_y, left_x - right_x))


def intersection_over_union(one: Rectangle, other: Rectangle) -> float:
    """The share of the area covered by both boxes in the area covered by either: 0 is apart, 1 is identical."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    both = max(width, 0) * max(height, 0)
    return both / (one.width * one.height + other.width * other.height - both)
