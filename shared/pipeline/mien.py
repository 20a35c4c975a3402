"""Our own face detector, run by ONNX Runtime: a close look for small faces, and one or two from afar for large ones.

The network was taught on scenes of 256 pixels and is best at faces of up to half of that. Copies of the picture, down to 96
pixels, show it the larger ones and cost a tenth to a third more; grey around the last copy gives a face that fills the
picture the room that it needs.
"""

import math
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from shared.boxes import POINTS, DetectorName
from shared.detector_manifest import load_detector_manifest
from shared.errors import DetectorError, ModelError
from shared.manifest import MODEL_FILE
from shared.pipeline.crop import framed
from shared.pipeline.decode import BgrImage
from shared.pipeline.detect import Detection, shrink
from shared.pipeline.session import Session, open_session
from shared.pipeline.single_shot import INPUT, OUTPUTS, STRIDES, Rows, as_detections, search, without_doubles

_MOST_PX: Final = 128  # larger faces are left to the next look…
_LEAST_FROM_AFAR_PX: Final = 20  # …which leaves smaller ones to the look before it
_STEP: Final = 4.0  # at most, from one look to the next
_GLANCE_PX: Final = 96  # the longer side of the last look…
_FRAME_PX: Final = 32  # …and the grey around it
_MOSTLY: Final = 0.7  # the share of a box's area that must lie in the other for it to be a part
_PART: Final = 1 / 9  # of the other's area: a smaller box may be a real face, in front of a body taken for a face
_ACROSS_AND_DOWN: Final = (1, 2, *range(5, 15))


def open_mien(directory: Path, max_side_px: int) -> "MienDetector":
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
    return MienDetector(session, max_side_px, manifest.least_face_px)


class MienDetector:
    """Several looks through one network."""

    name: DetectorName = "mien"

    def __init__(self, session: Session, max_side_px: int, least_face_px: float) -> None:
        """`session` takes pictures of any size; those larger than `max_side_px` are searched at that size.

        `least_face_px`: the smallest face that the network finds nearly always.
        """
        self._session, self._max_side_px, self._least_face_px = session, max_side_px, least_face_px

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        small, scale = shrink(image, self._max_side_px, min_face, self._least_face_px)
        looks = [self._look(small, side, min_confidence) for side in _looks(max(small.shape[:2]))]
        rows = _without_parts(without_doubles(np.concatenate(looks)))
        rows[:, 1:] /= scale
        return as_detections(rows)

    def _look(self, image: BgrImage, side_px: int, min_confidence: float) -> Rows:
        """The faces that a copy of `side_px` shows at the sizes that the network knows, in pixels of `image`."""
        near, last = side_px >= max(image.shape[:2]), side_px <= _GLANCE_PX
        copy, scale = shrink(image, side_px)
        if last:
            copy = np.asarray(framed(copy, _FRAME_PX), np.uint8)
        rows = search(self._session, copy, min_confidence)
        if last:
            rows[:, _ACROSS_AND_DOWN] -= _FRAME_PX
        sizes = np.sqrt(rows[:, 3] * rows[:, 4])
        rows = rows[(near | (sizes >= _LEAST_FROM_AFAR_PX)) & (last | (sizes <= _MOST_PX))]
        rows[:, 1:] /= scale
        return np.asarray(rows, np.float32)


def _looks(side_px: int) -> list[int]:
    """The longer sides at which a picture is searched: its own, then as few smaller ones as leave no size out."""
    steps = math.ceil(math.log(max(side_px / _GLANCE_PX, 1)) / math.log(_STEP))
    return [round(_GLANCE_PX * (side_px / _GLANCE_PX) ** (step / max(steps, 1))) for step in range(steps, 0, -1)] + [
        min(side_px, _GLANCE_PX)
    ]


def _without_parts(rows: Rows) -> Rows:
    """Without what lies in a larger face and is less certain: an eye and a nose look like a face of their own."""
    near, far, areas = rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5], rows[:, 3] * rows[:, 4]
    common = np.minimum(far[:, np.newaxis], far) - np.maximum(near[:, np.newaxis], near)
    inside = np.clip(common, 0, None).prod(axis=2) > _MOSTLY * areas[:, np.newaxis]
    larger = (areas[:, np.newaxis] < areas) & (areas[:, np.newaxis] > _PART * areas)
    of_larger = inside & larger & (rows[:, :1] < rows[:, 0])
    return np.asarray(rows[~of_larger.any(axis=1)], np.float32)


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
