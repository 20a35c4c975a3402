"""Boxes and labels drawn over a picture, for people."""

from typing import Final, Literal, TypeAlias

import cv2

from shared.analyzer import Face
from shared.pipeline.decode import BgrImage

ImageKind: TypeAlias = Literal["jpeg", "png"]

_BGR: Final = {  # as on the demo page
    "angry": (44, 55, 201),
    "disgust": (1, 154, 122),
    "fear": (223, 80, 130),
    "happy": (0, 121, 183),
    "neutral": (144, 133, 125),
    "sad": (225, 125, 47),
    "surprise": (159, 64, 214),
}
_WHITE: Final = (255, 255, 255)


def annotate(image: BgrImage, faces: tuple[Face, ...]) -> BgrImage:
    """`image` (H, W, 3) with the box, the emotion and its probability of each face drawn into it."""
    drawn = image
    scale = max(0.35, drawn.shape[1] / 1200)
    thickness = max(1, round(scale * 1.6))
    for face in faces:
        box, color = face.box, _BGR[face.emotion]
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


def encode(image: BgrImage, kind: ImageKind) -> bytes:
    """An image file of `kind`."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if kind == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    return cv2.imencode(f".{kind}", image, options)[1].tobytes()
