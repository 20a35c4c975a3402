"""The parts of our answers, as JSON has them; schemas.py describes them for clients.

They are plain dictionaries: building the models of schemas.py would validate our own answers again, in ten times the time.
"""

from typing import Any, Final

from pydantic_core import to_json

from shared.analysis import Analysis, Face, Model
from shared.boxes import POINTS
from shared.emotions import EMOTIONS

_DIGITS: Final = 6


def prediction(analysis: Analysis, request_id: str) -> bytes:
    """The answer to /predict, a `Prediction`."""
    return to_json({"request_id": request_id, "model": model(analysis.model), **faces(analysis)})


def faces(analysis: Analysis) -> dict[str, Any]:
    """The image, its faces and the times of an answer."""
    return {
        "image": {"width": analysis.width, "height": analysis.height},
        "faces": [face(one) for one in analysis.faces],
        "timings_ms": in_ms(analysis.timings_s),
    }


def model(model: Model) -> dict[str, str]:
    """Which model and detector answered, a `ModelName`."""
    return {"name": model.name, "version": model.version, "detector": model.detector}


def face(face: Face) -> dict[str, Any]:
    """One face, a `FaceModel`."""
    box, landmarks = face.box, None
    if face.landmarks is not None:
        points = zip(POINTS, face.landmarks, strict=True)
        landmarks = {name: {"x": round(x, 1), "y": round(y, 1)} for name, (x, y) in points}
    return {
        "box": {"x": box.x, "y": box.y, "width": box.width, "height": box.height},
        "confidence": None if face.confidence is None else round(face.confidence, 4),
        "emotion": face.emotion,
        "probabilities": by_emotion(face.probabilities),
        "landmarks": landmarks,
        "roll_deg": None if face.roll_deg is None else round(face.roll_deg, 1),
    }


def by_emotion(probabilities: tuple[float, ...]) -> dict[str, float]:
    """Seven probabilities by name."""
    return {emotion: round(p, _DIGITS) for emotion, p in zip(EMOTIONS, probabilities, strict=True)}


def in_ms(timings_s: dict[str, float]) -> dict[str, float]:
    """How long each stage took, in milliseconds."""
    return {stage: round(seconds * 1000, 3) for stage, seconds in timings_s.items()}
