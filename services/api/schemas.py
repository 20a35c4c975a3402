"""Requests and answers of the API, as clients see them. replies.py makes the answers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.analysis import Options
from shared.answers import AnswerName, Prior, PriorName, expected_shares
from shared.emotions import EMOTIONS
from shared.manifest import InputSpec

NAMED_PRIORS: Final[tuple[PriorName, ...]] = ("natural", "balanced")
PRIOR: Final = f"natural, balanced, or seven expected shares with commas between, of {', '.join(EMOTIONS)}."


class ModelName(BaseModel):
    """Which model and face detector answered."""

    name: str
    version: str
    detector: str


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


class PointModel(BaseModel):
    """Pixels of the displayed image, to a tenth; a point may lie past the border."""

    x: float
    y: float


class LandmarksModel(BaseModel):
    """Five points of a face. Right and left are the person's own: the right eye is on the left of the picture."""

    right_eye: PointModel
    left_eye: PointModel
    nose: PointModel
    mouth_right: PointModel
    mouth_left: PointModel


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
    landmarks: Annotated[
        LandmarksModel | None,
        Field(description="null with detect=false, and from a detector that finds no points (haar)."),
    ]
    roll_deg: Annotated[
        float | None,
        Field(description="How far the head is turned in the picture: 0 is upright, 90 a quarter clockwise."),
    ]


_EXAMPLE: Final[dict[str, Any]] = {
    "request_id": "5f0c0d9a4f0e4e0f9b0c6f6a1d2e3f40",
    "model": {"name": "default", "version": "1f2e3d4c5b6a", "detector": "mien"},
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
            "landmarks": {
                "right_eye": {"x": 258.1, "y": 94.6}, "left_eye": {"x": 305.4, "y": 93.0}, "nose": {"x": 283.9, "y": 116.2},
                "mouth_right": {"x": 265.2, "y": 138.0}, "mouth_left": {"x": 303.8, "y": 136.9},
            },
            "roll_deg": -1.9,
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


class BatchItem(BaseModel):
    """One file of a batch: its faces with status 200, or its error with the status it would have had on its own."""

    filename: str
    status: int
    image: ImageSize | None = None
    faces: list[FaceModel] | None = None
    timings_ms: dict[str, float] | None = None
    code: str | None = None
    detail: str | None = None


class BatchPrediction(BaseModel):
    """A result per file, in the order sent."""

    request_id: str
    model: ModelName
    results: list[BatchItem]


MIN_FACE: Final = Field(
    ge=0,
    le=65_535,
    allow_inf_nan=False,
    description="Smallest face to look for: below 1 a share of the picture's shorter side, otherwise pixels of the "
    "picture. Larger is faster; 0 searches at the largest size that the service allows.",
)


def prior_of(given: str | Sequence[float]) -> Prior:
    """A prior as clients write it: a name, seven shares, or a text of seven with commas. Raises UnusablePrior."""
    for name in NAMED_PRIORS:
        if given == name:
            return name
    shares = given.split(",") if isinstance(given, str) else given
    return tuple(map(float, expected_shares(shares)))  # type: ignore[arg-type] # numpy reads texts of numbers too


class PredictQuery(BaseModel):
    """The query parameters of a prediction. An unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_faces: Annotated[
        int | None,
        Field(ge=1, le=1000, description="Maximum number of faces, largest first; the service may allow fewer."),
    ] = None
    min_confidence: Annotated[float | None, Field(ge=0, le=1, description="Minimum confidence of a detected face.")] = (
        None
    )
    min_face: Annotated[float | None, MIN_FACE] = None
    detect: Annotated[bool, Field(description="false: treat the whole picture as one face.")] = True

    answer: Annotated[
        AnswerName | None, Field(description="people: as people see the face. labels: as FER2013 labels it.")
    ] = None
    prior: Annotated[str | None, Field(description=PRIOR)] = None

    def options(self, defaults: Options) -> Options:
        """The options of this request, within what the service allows. Raises UnusablePrior."""
        asked = defaults.asking(self.answer, prior_of(self.prior) if self.prior else None)
        return replace(
            asked,
            detect=self.detect,
            max_faces=min(self.max_faces or defaults.max_faces, defaults.max_faces),
            min_face=defaults.min_face if self.min_face is None else self.min_face,
            min_confidence=defaults.min_confidence if self.min_confidence is None else self.min_confidence,
        )


class AnnotateQuery(PredictQuery):
    """The query parameters of a drawing."""

    points: Annotated[bool, Field(description="true: draw the five landmarks of each face too.")] = False


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
    answers: Annotated[list[AnswerName], Field(description="What a request may ask for.")]
    default_answer: Annotated[AnswerName, Field(description="Given unless a request asks for another.")]
    default_prior: Annotated[str | list[float], Field(description=f"Of the default answer. {PRIOR}")]
    training: dict[str, Any]
    metrics: Annotated[dict[str, Any], Field(description="By split, answer and the images compared with.")]
    robustness: dict[str, Any] | None
    steadiness: dict[str, Any] | None
    groups: dict[str, Any] | None


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
