"""What is asked of an image, and what was read in it. It imports none of the pipeline, which the service itself does not need."""

from dataclasses import dataclass, field, replace
from typing import Final

from shared.answers import AnswerName, Prior
from shared.boxes import DetectorName, Landmarks, PixelBox, roll_deg
from shared.emotions import EMOTIONS
from shared.pictures import GreyImage

# Smaller faces show too little to be read, and looking for them costs time. Zero looks for the smallest of all.
MIN_FACE_PX: Final = 20.0
STAGES: Final = ("decode", "detect", "crop", "classify")


@dataclass(frozen=True, slots=True)
class Options:
    """What one request asks for. Without `detect` the whole picture is treated as one face."""

    detect: bool = True
    max_faces: int = 32
    min_confidence: float = 0.6
    # The smallest face looked for: below 1 a share of the picture's shorter side, else pixels.
    min_face: float = MIN_FACE_PX
    answer: AnswerName | None = None  # the model's default
    prior: Prior | None = None  # that of the answer

    def asking(self, answer: AnswerName | None, prior: Prior | None) -> "Options":
        """These options with another answer or prior, where given. A prior belongs to the answer it was given for."""
        chosen = answer or self.answer
        kept = self.prior if chosen == self.answer else None
        return replace(self, answer=chosen, prior=kept if prior is None else prior)


@dataclass(frozen=True, slots=True)
class Face:
    """One face and its expression: `probabilities` in the order of EMOTIONS, summing to 1.

    `confidence` is the detector's; None where detection was skipped because the picture is itself a face. `crop` is
    what the classifier saw, (size, size) uint8; tracking tells faces apart by it. `landmarks` are in
    displayed pixels and may lie past the border; None where the detector finds none, or did not run.
    """

    box: PixelBox
    confidence: float | None
    probabilities: tuple[float, ...]
    crop: GreyImage | None = field(default=None, compare=False, repr=False)
    landmarks: Landmarks | None = None

    @property
    def emotion(self) -> str:
        return EMOTIONS[self.probabilities.index(max(self.probabilities))]

    @property
    def roll_deg(self) -> float | None:
        """How far the head is turned in the picture; None without landmarks."""
        return None if self.landmarks is None else roll_deg(self.landmarks)


@dataclass(frozen=True, slots=True)
class Model:
    """Which model and detector answered."""

    name: str
    version: str
    detector: DetectorName


@dataclass(frozen=True, slots=True)
class Analysis:
    """One image: its displayed size, its faces, largest first, the time each stage took, and which model answered."""

    width: int
    height: int
    faces: tuple[Face, ...]
    timings_s: dict[str, float]
    model: Model
