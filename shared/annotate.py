"""Draws boxes and labels on a picture, for people."""

from typing import Final, Literal, TypeAlias

import cv2

from shared.analyzer import Face
from shared.emotions import EMOTION_COLORS
from shared.pipeline.decode import BgrImage

ImageKind: TypeAlias = Literal["jpeg", "png"]

_WHITE: Final = (255, 255, 255)


def annotate(image: BgrImage, faces: tuple[Face, ...]) -> BgrImage:
    """`image` (H, W, 3) with each face's box, emotion and probability drawn on it, in place."""
    drawn = image
    scale = max(0.35, drawn.shape[1] / 1200)
    thickness = max(1, round(scale * 1.6))
    for face in faces:
        box, color = face.box, _bgr(EMOTION_COLORS[face.emotion])
        label = f"{face.emotion} {max(face.probabilities):.0%}"
        (width, height), below = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        tag = height + below + 4
        top = box.y - tag if box.y >= tag else min(box.y + box.height, drawn.shape[0] - tag)
        left = max(0, min(box.x, drawn.shape[1] - width - 4))
        cv2.rectangle(drawn, (box.x, box.y), (box.x + box.width - 1, box.y + box.height - 1), color, thickness)
        cv2.rectangle(drawn, (left, top), (left + width + 4, top + tag), color, -1)
        place = (left + 2, top + height + 2)
        cv2.putText(drawn, label, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _WHITE, thickness, cv2.LINE_AA)
    return drawn


def _bgr(color: str) -> tuple[int, int, int]:
    """OpenCV's form of a colour given as #rrggbb."""
    red, green, blue = bytes.fromhex(color[1:])
    return blue, green, red


def encode(image: BgrImage, kind: ImageKind) -> bytes:
    """An image file of `kind`."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if kind == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    return cv2.imencode(f".{kind}", image, options)[1].tobytes()
