"""models/<name>/: what a model is, its input, how good it is, and how to verify that it is unchanged."""

import base64
import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.atomic import write_text
from shared.boxes import CropGeometry, DetectorName
from shared.emotions import EMOTIONS
from shared.errors import ModelError

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
CARD_FILE: Final = "card.md"
FORMAT: Final = 1
SCALE: Final = 1 / 255  # what preprocess.py does


Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Section):
    """A batch (N, size_px, size_px, 1) of grey faces, uint8 multiplied by `scale`."""

    size_px: Annotated[int, Field(ge=16, le=512)] = 48
    channels: Literal[1] = 1
    dtype: Literal["float32"] = "float32"
    scale: float = SCALE


class Golden(_Section):
    """One face and the model's answer to it; a runtime that answers differently must not serve."""

    face: str  # base64 of (size_px, size_px) uint8
    probabilities: Annotated[tuple[Share, ...], Field(min_length=len(EMOTIONS), max_length=len(EMOTIONS))]
    tolerance: Annotated[float, Field(gt=0, le=0.1)] = 1e-3

    @classmethod
    def of(
        cls, face: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32], tolerance: float = 1e-3
    ) -> "Golden":
        """Keep `face` (size, size) with its `probabilities` (7,)."""
        text = base64.b64encode(face.tobytes()).decode()
        return cls(face=text, probabilities=tuple(round(float(p), 6) for p in probabilities), tolerance=tolerance)

    def pixels(self, size_px: int) -> npt.NDArray[np.uint8]:
        """The face, (size_px, size_px) uint8. Raises ValueError when it has another size."""
        return np.frombuffer(base64.b64decode(self.face), np.uint8).reshape(size_px, size_px)


class ModelManifest(_Section):
    """Everything known about a model besides its weights; every figure as the trainer wrote it."""

    format: Literal[1] = FORMAT
    name: str
    version: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of model.onnx
    labels: tuple[str, ...]
    input: InputSpec = InputSpec()
    crop: dict[DetectorName, CropGeometry]
    golden: Golden
    opset: int
    ir_version: int
    precision: Literal["fp32", "int8"] = "fp32"
    parameters: int
    training: dict[str, Any]  # data hash, commit, seed, epochs, configuration, versions
    metrics: dict[str, Any]  # by split
    robustness: dict[str, Any] | None = None  # accuracy on degraded pictures, where measured
    license: str

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if not math.isclose(self.input.scale, SCALE, rel_tol=1e-6):
            raise ValueError(f"input.scale is {self.input.scale}; faces are multiplied by {SCALE}")
        for name, place in self.crop.items():
            if not (place.width > 0 and place.height > 0 and math.isfinite(place.x) and math.isfinite(place.y)):
                raise ValueError(f"crop.{name} is not a valid box")
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
