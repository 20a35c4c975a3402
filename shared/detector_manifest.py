"""models/detector/: what our face detector is, how good it is, and how to verify that it is unchanged."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.atomic import write_text
from shared.boxes import POINTS
from shared.errors import DetectorError
from shared.manifest import MANIFEST_FILE, MODEL_FILE, Share, sha256_of


class DetectorManifest(BaseModel):
    """Everything known about a detector beside its weights; every figure as the trainer measured it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    kind: Literal["detector"] = "detector"
    name: str
    version: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of model.onnx
    points: tuple[str, ...] = POINTS
    strides: tuple[int, ...]
    # Faces of this size, in pixels of the picture that is searched, are found nearly always; smaller ones may not be.
    least_face_px: Annotated[float, Field(gt=0, le=256)]
    min_confidence: Share  # the threshold at which the figures were measured
    opset: int
    ir_version: int
    parameters: int
    training: dict[str, Any]  # data hashes, commit, seed, steps, configuration, versions
    metrics: dict[str, Any]  # as `detector evaluate` wrote them
    license: str

    def save(self, directory: Path) -> None:
        """Write manifest.json, whole or not at all."""
        write_text(directory / MANIFEST_FILE, self.model_dump_json(indent=2) + "\n")


def load_detector_manifest(directory: Path) -> DetectorManifest:
    """The manifest of a detector directory, its model.onnx verified against it.

    Raises DetectorError when a file is missing, when the hash differs, or when its points are not ours.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = DetectorManifest.model_validate_json(path.read_bytes())
        actual = sha256_of(directory / MODEL_FILE)
    except OSError as error:
        raise DetectorError(f"There is no detector in {directory} ({error.filename}: {error.strerror}).") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise DetectorError(f"{path} is not the manifest of a detector: {where}: {fault['msg']}.") from error
    if manifest.points != POINTS:
        raise DetectorError(f"{path} has the points {', '.join(manifest.points)}; they must be {', '.join(POINTS)}.")
    if actual != manifest.sha256:
        raise DetectorError(
            f"{directory / MODEL_FILE} is not the file its manifest describes: its sha256 is {actual[:12]}…. Export it again."
        )
    return manifest
