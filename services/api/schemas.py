"""Requests and answers of the API, as clients see them."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.analyzer import Analysis, Model, Options
from shared.analyzer import Face as AnalyzedFace
from shared.emotions import EMOTIONS
from shared.manifest import InputSpec

_DIGITS: Final = 6


class ModelName(BaseModel):
    """Which model and face detector answered."""

    name: str
    version: str
    detector: str

    @classmethod
    def of(cls, model: Model) -> Self:
        return cls(name=model.name, version=model.version, detector=model.detector)


class ImageSize(BaseModel):
    """The image as displayed, after EXIF orientation, in pixels."""

    width: int
    height: int


class BoxModel(BaseModel):
    """Whole pixels of the displayed image, inside it."""

    x: int
    y: int
    width: int
    height: int


class FaceModel(BaseModel):
    """One face."""

    box: BoxModel
    confidence: Annotated[
        float | None,
        Field(description="Of the detection, 0 to 1; comparable within one detector. null with detect=false."),
    ]
    emotion: Annotated[
        str, Field(description="The most probable of the seven.", json_schema_extra={"enum": list(EMOTIONS)})
    ]
    probabilities: Annotated[dict[str, float], Field(description="Of each of the seven, summing to 1.")]

    @classmethod
    def of(cls, face: AnalyzedFace) -> Self:
        box = face.box
        return cls(
            box=BoxModel(x=box.x, y=box.y, width=box.width, height=box.height),
            confidence=None if face.confidence is None else round(face.confidence, 4),
            emotion=face.emotion,
            probabilities={e: round(p, _DIGITS) for e, p in zip(EMOTIONS, face.probabilities, strict=True)},
        )


_EXAMPLE: Final[dict[str, Any]] = {
    "request_id": "5f0c0d9a4f0e4e0f9b0c6f6a1d2e3f40",
    "model": {"name": "default", "version": "1f2e3d4c5b6a", "detector": "yunet"},
    "image": {"width": 640, "height": 480},
    "faces": [
        {
            "box": {"x": 227, "y": 50, "width": 108, "height": 116},
            "confidence": 0.93,
            "emotion": "happy",
            "probabilities": {
                "angry": 0.004, "disgust": 0.001, "fear": 0.007, "happy": 0.941,
                "neutral": 0.034, "sad": 0.005, "surprise": 0.008,
            },
        }
    ],
    "timings_ms": {"queue": 0.1, "decode": 2.1, "detect": 7.0, "crop": 0.1, "classify": 1.2},
}  # fmt: skip


class Prediction(BaseModel):
    """The faces of one image, largest first; empty for an image without a face."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    request_id: str
    model: ModelName
    image: ImageSize
    faces: list[FaceModel]
    timings_ms: dict[str, float]

    @classmethod
    def of(cls, analysis: Analysis, request_id: str) -> Self:
        return cls(
            request_id=request_id,
            model=ModelName.of(analysis.model),
            image=ImageSize(width=analysis.width, height=analysis.height),
            faces=[FaceModel.of(face) for face in analysis.faces],
            timings_ms=in_ms(analysis),
        )


def in_ms(analysis: Analysis) -> dict[str, float]:
    """How long each stage took, in milliseconds."""
    return {stage: round(seconds * 1000, 3) for stage, seconds in analysis.timings_s.items()}


class BatchItem(BaseModel):
    """One file of a batch: its faces with status 200, or its error with the status it would have had on its own."""

    filename: str
    status: int
    image: ImageSize | None = None
    faces: list[FaceModel] | None = None
    timings_ms: dict[str, float] | None = None
    code: str | None = None
    detail: str | None = None

    @classmethod
    def of(cls, filename: str, analysis: Analysis) -> Self:
        return cls(
            filename=filename,
            status=200,
            image=ImageSize(width=analysis.width, height=analysis.height),
            faces=[FaceModel.of(face) for face in analysis.faces],
            timings_ms=in_ms(analysis),
        )


class BatchPrediction(BaseModel):
    """A result per file, in the order sent."""

    request_id: str
    model: ModelName
    results: list[BatchItem]


class PredictQuery(BaseModel):
    """The query parameters of a prediction. An unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid")

    max_faces: Annotated[
        int | None,
        Field(ge=1, le=1000, description="Maximum number of faces, largest first; the service may allow fewer."),
    ] = None
    min_confidence: Annotated[float | None, Field(ge=0, le=1, description="Minimum confidence of a detected face.")] = (
        None
    )
    detect: Annotated[bool, Field(description="false: treat the whole picture as one face.")] = True

    def options(self, max_faces: int, min_confidence: float) -> Options:
        """The options of this request, within what the service allows."""
        return Options(
            detect=self.detect,
            max_faces=min(self.max_faces or max_faces, max_faces),
            min_confidence=min_confidence if self.min_confidence is None else self.min_confidence,
        )


class ModelDescription(BaseModel):
    """The model served and everything known about it."""

    name: str
    version: str
    sha256: str
    labels: list[str]
    input: InputSpec
    detector: str
    precision: str
    parameters: int
    license: str
    training: dict[str, Any]
    metrics: dict[str, Any]
    robustness: dict[str, Any] | None


class Alive(BaseModel):
    """The process is running."""

    status: Literal["ok"] = "ok"


class Ready(Alive):
    """Images are analyzed, by this model and detector."""

    model: ModelName


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
