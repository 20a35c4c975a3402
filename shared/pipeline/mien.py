"""Our own face detector, run by ONNX Runtime."""

from pathlib import Path

import onnxruntime

from shared.boxes import POINTS
from shared.detector_manifest import load_detector_manifest
from shared.errors import DetectorError, ModelError
from shared.manifest import MODEL_FILE
from shared.pipeline.session import open_session
from shared.pipeline.single_shot import INPUT, OUTPUTS, STRIDES, SingleShotDetector


def open_mien(directory: Path, max_side_px: int) -> SingleShotDetector:
    """The detector of a directory that `detector export` wrote; larger pictures are searched at `max_side_px`.

    Raises DetectorError when the directory fails verification.
    """
    manifest = load_detector_manifest(directory)
    if manifest.strides != STRIDES:
        raise DetectorError(f"{directory} has the strides {manifest.strides}; they must be {STRIDES}.")
    try:
        session = open_session(directory / MODEL_FILE, threads=1)
    except ModelError as error:
        raise DetectorError(str(error)) from error
    _check_interface(session, directory)
    return SingleShotDetector("mien", session, max_side_px, manifest.least_face_px)


def _check_interface(session: onnxruntime.InferenceSession, directory: Path) -> None:
    points = session.get_modelmeta().custom_metadata_map.get("points", "")
    if points != ",".join(POINTS):
        raise DetectorError(
            f"The ONNX file in {directory} has the points '{points}'; they must be {', '.join(POINTS)}."
        )
    inputs = {value.name: value.shape for value in session.get_inputs()}
    if set(inputs) != {INPUT} or inputs[INPUT][:2] != [1, 3] or any(isinstance(n, int) for n in inputs[INPUT][2:]):
        raise DetectorError(f"The ONNX file in {directory} has the input {inputs}, not one picture of any size.")
    outputs = {value.name for value in session.get_outputs()}
    if outputs != set(OUTPUTS):
        raise DetectorError(
            f"The ONNX file in {directory} has the outputs {', '.join(sorted(outputs))}, not the twelve of such a detector."
        )
