"""Which detectors there are, and where their files are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from shared.boxes import DetectorName

DetectorChoice: TypeAlias = Literal["auto"] | DetectorName

MIEN_DETECTOR: Final = Path("models/detector")
YUNET_MODEL: Final = Path("models/yunet/face_detection_yunet_2023mar.onnx")


@dataclass(frozen=True, slots=True)
class DetectorFiles:
    """Where the detectors are: the directory of our own, and YuNet's file. Haar is part of OpenCV."""

    mien: Path = MIEN_DETECTOR
    yunet: Path = YUNET_MODEL
