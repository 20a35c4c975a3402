"""models/<name>/: what a model is, its input, how good it is, and how to verify that it is unchanged."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from shared.answers import BALANCE_STRENGTH, AnswerName, PriorName, default_answer
from shared.atomic import write_text
from shared.boxes import CropGeometry, DetectorName
from shared.emotions import EMOTIONS
from shared.errors import ModelError
from shared.scores import AnswerScores, Groups, Metrics, Robustness, Steadiness, upgraded_metrics

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
CARD_FILE: Final = "card.md"
FORMAT: Final = 2  # format 1 knew one answer; it is read as one called "labels"
SCALE: Final = 1 / 255  # what preprocess.py does


Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Shares: TypeAlias = Annotated[tuple[Share, ...], Field(min_length=len(EMOTIONS), max_length=len(EMOTIONS))]
Shift: TypeAlias = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=len(EMOTIONS), max_length=len(EMOTIONS))
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Section):
    """A batch (N, size_px, size_px, 1) of grey faces, uint8 multiplied by `scale`."""

    size_px: Annotated[int, Field(ge=16, le=512)] = 48
    channels: Literal[1] = 1
    dtype: Literal["float32"] = "float32"
    scale: float = SCALE


class Golden(_Section):
    """One face; a runtime whose answers to it differ from the manifest's by more than `tolerance` must not serve."""

    face: str  # base64 of (size_px, size_px) uint8
    tolerance: Annotated[float, Field(gt=0, le=0.1)] = 1e-3

    @classmethod
    def of(cls, face: npt.NDArray[np.uint8], tolerance: float = 1e-3) -> "Golden":
        """Keep `face` (size, size)."""
        return cls(face=base64.b64encode(face.tobytes()).decode(), tolerance=tolerance)

    def pixels(self, size_px: int) -> npt.NDArray[np.uint8]:
        """The face, (size_px, size_px) uint8. Raises ValueError when it has another size."""
        return np.frombuffer(base64.b64decode(self.face), np.uint8).reshape(size_px, size_px)


class Answer(_Section):
    """One answer of the model, an output of the ONNX file."""

    temperature: Annotated[float, Field(gt=0)]  # the logits are divided by it, inside the graph
    shift: Shift | None = None  # then this is added, so that each emotion is expected as often as it is there
    frequencies: Shares | None = None  # of the emotions, as its natural probabilities expect them; priors need them
    golden: Shares  # the probabilities of the golden face


class DefaultPrior(_Section):
    """How the default answer weighs rare emotions unless a request says otherwise, and its figures so weighed."""

    kind: PriorName = "natural"
    strength: Annotated[float, Field(ge=0, le=1)] = BALANCE_STRENGTH  # of balanced, whoever asks for it
    metrics: dict[str, AnswerScores] | None = None  # by split; none where the prior is natural


class Quantization(_Section):
    """Where an INT8 model comes from, and what it saves; pairs are before and after."""

    from_version: str
    scheme: str
    reduced_range: bool
    calibration_faces: int
    bytes: tuple[int, int]
    ms_per_face_one_thread: tuple[float, float]
    size_ratio: float
    time_ratio: float
    fp32_accuracy: dict[str, dict[AnswerName, float]]  # by split, on each answer's own yardstick


class Source(_Section):
    """Something that a model was made from: weights that it began with, a teacher, or faces without labels.

    Of weights and teachers, also what those were made from, as far as the run that made them wrote it down; only what
    is known is written.
    """

    name: str
    sha256: str
    data: str | None = None  # the labelled faces that it learned from; all of this as in Training
    pretrained: str | None = None
    began_with: tuple["Source", ...] = ()
    teachers: tuple["Source", ...] = ()
    faces: "Source | None" = None

    @model_serializer(mode="wrap")
    def _known(self, everything: SerializerFunctionWrapHandler) -> dict[str, Any]:
        required = ("name", "sha256")
        return {name: value for name, value in everything(self).items() if value or name in required}


def beginnings(named: Sequence[Source], init_sha256: str | None) -> tuple[Source, ...]:
    """The models whose weights a run began with. Older trainers wrote no more of them than their hashes, joined by "+"."""
    unnamed = (Source(name="an unnamed run", sha256=sha256) for sha256 in (init_sha256 or "").split("+") if sha256)
    return tuple(named) or tuple(unnamed)


class Training(BaseModel):
    """Where the weights come from; what other trainers add is kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    config: dict[str, Any]  # as services/trainer/training/config.py reads it
    network: str
    seed: int
    epochs: int
    best_epoch: int
    train_seconds: float
    data: str = "FER2013"  # the only data of the first trainers
    data_sha256: str
    commit: str
    device: str = "CPU"
    pretrained: str | None = None
    init_sha256: str | None = None
    began_with: tuple[Source, ...] = ()  # the runs they came from; of a pruned run, the whole one
    teachers_sha256: tuple[str, ...] = ()
    teachers: tuple[Source, ...] = ()  # the same, named
    faces: Source | None = None  # without labels, which only the teachers labelled
    quantization: Quantization | None = None


class ModelManifest(_Section):
    """Everything known about a model besides its weights; every figure as the trainer wrote it."""

    format: Literal[2] = FORMAT
    name: str
    version: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of model.onnx
    labels: tuple[str, ...]
    input: InputSpec = InputSpec()
    mirrored: bool = False  # whether the graph reads each face together with its mirror image
    crop: dict[DetectorName, CropGeometry]
    answers: Annotated[dict[AnswerName, Answer], Field(min_length=1)]
    default_prior: DefaultPrior = DefaultPrior()
    golden: Golden
    opset: int
    ir_version: int
    precision: Literal["fp32", "int8"] = "fp32"
    parameters: int
    training: Training
    metrics: Metrics
    robustness: Robustness | None = None  # accuracy on degraded pictures, where measured
    steadiness: Steadiness | None = None  # where measured
    groups: Groups | None = None  # where measured
    license: str

    @property
    def default_answer(self) -> AnswerName:
        """The answer that is given unless another is asked for."""
        return default_answer(self.answers)

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("format") != 1:
            return content
        try:
            return _from_format_1(content)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"a manifest of format 1 with something missing or of another kind ({error})") from error

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if not math.isclose(self.input.scale, SCALE, rel_tol=1e-6):
            raise ValueError(f"input.scale is {self.input.scale}; faces are multiplied by {SCALE}")
        for name, place in self.crop.items():
            if not (place.width > 0 and place.height > 0 and math.isfinite(place.x) and math.isfinite(place.y)):
                raise ValueError(f"crop.{name} is not a valid box")
        if self.default_prior.kind != "natural" and self.answers[self.default_answer].frequencies is None:
            raise ValueError(f"default_prior is {self.default_prior.kind}, but the answer has no frequencies")
        try:
            self.golden.pixels(self.input.size_px)
        except ValueError as error:
            raise ValueError(
                f"golden.face is not a face of {self.input.size_px}x{self.input.size_px} pixels: {error}"
            ) from error
        return self

    def save(self, directory: Path) -> None:
        """Write manifest.json, whole or not at all."""
        write_text(directory / MANIFEST_FILE, self.model_dump_json(indent=2) + "\n")


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_manifest(directory: Path) -> ModelManifest:
    """The manifest of a model directory, its model.onnx verified against it.

    Raises ModelError when a file is missing, when the hash differs, or when the labels are not ours.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = ModelManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"There is no model in {directory} ({path.name}: {error.strerror}). Export one, or set MIEN_MODEL."
        ) from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise ModelError(f"{path} is not a valid manifest: {where}: {fault['msg']}.") from error
    if manifest.labels != EMOTIONS:
        raise ModelError(
            f"{path} has the labels {', '.join(manifest.labels)}; they must be {', '.join(EMOTIONS)}, in this order."
        )
    try:
        actual = sha256_of(directory / MODEL_FILE)
    except OSError as error:
        raise ModelError(
            f"There is no {MODEL_FILE} in {directory} ({error.strerror}). Export the model again."
        ) from error
    if actual != manifest.sha256:
        raise ModelError(
            f"{directory / MODEL_FILE} is not the file its manifest describes: its sha256 is {actual[:12]}…. Export it again."
        )
    return manifest


def _from_format_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest of format 1 as one of today, with the one answer "labels"."""
    training, golden = dict(content["training"]), dict(content["golden"])
    answer = {"temperature": training.pop("temperature"), "golden": golden.pop("probabilities")}
    if made := training.get("quantization"):
        training["quantization"] = _quantization_from_format_1(made)
    new = {**content, "format": FORMAT, "training": training, "golden": golden, "answers": {"labels": answer}}
    new["metrics"] = upgraded_metrics(content["metrics"])
    if harms := dict(content.get("robustness") or {}):
        new["robustness"] = {"split": harms.pop("split"), "answers": {"labels": harms}}
    return new


def _quantization_from_format_1(made: Mapping[str, Any]) -> dict[str, Any]:
    accuracy = {split: {"labels": value} for split, value in made["fp32_accuracy"].items()}
    times = made["ms_a_face_one_thread"]
    kept = {name: value for name, value in made.items() if name != "ms_a_face_one_thread"}
    return {**kept, "ms_per_face_one_thread": times, "fp32_accuracy": accuracy}
