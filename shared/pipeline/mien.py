"""Our own face detector, run by ONNX Runtime: a look, and a glance from afar for large faces."""

from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime

from shared.boxes import POINTS, DetectorName
from shared.detector_manifest import load_detector_manifest
from shared.errors import DetectorError, ModelError
from shared.manifest import MODEL_FILE
from shared.pictures import BgrImage
from shared.pipeline.crop import framed
from shared.pipeline.detect import Detection, shrink
from shared.pipeline.session import Session, open_session
from shared.pipeline.single_shot import INPUT, OUTPUTS, STRIDES, Rows, as_detections, search, without_doubles

_Floats: TypeAlias = npt.NDArray[np.float32]

# The network is best at faces of up to a few hundred pixels. A small copy of the picture shows it the larger ones, with grey
# around it, which gives a face that fills the picture the room that it needs; that costs as much as 160x160 pixels.
_GLANCE_PX: Final = 96  # the longer side of the copy…
_FRAME_PX: Final = 32  # …and the grey around it
_LEAST_FROM_AFAR_PX: Final = 20  # of the copy: smaller faces are left to the first look
_ACROSS_AND_DOWN: Final = (1, 2, *range(5, 15))
_SURELY_SEEN_PX: Final = 26  # of the copy: a face of this size is seen there…
_SEEN: Final = 0.5  # …with this share of the confidence asked for…
_SEEN_IOU: Final = 0.4  # …about where the first look sees it
_SAME_IOU: Final = 0.6  # boxes that overlap by less say too little about each other
_LEAST_WEIGHT: Final = 1e-6
_LEAST_AREA: Final = 1e-6
_MOSTLY: Final = 0.7  # the share of a box's area that must lie in the other for it to be a part
_PART: Final = 1 / 9  # of the other's area: a smaller box may be a real face, in front of a body taken for a face


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
    """One network, and two looks at each picture."""

    name: DetectorName = "mien"

    def __init__(self, session: Session, max_side_px: int, least_face_px: float) -> None:
        """`session` takes pictures of any size; those larger than `max_side_px` are searched at that size.

        `least_face_px`: the smallest face that the network finds nearly always.
        """
        self._session, self._max_side_px, self._least_face_px = session, max_side_px, least_face_px

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        small, scale = shrink(image, self._max_side_px, min_face, self._least_face_px)
        glance = self._glance(small, _SEEN * min_confidence)
        near = _seen_from_afar(search(self._session, small, min_confidence), glance, max(small.shape[:2]) / _GLANCE_PX)
        found = np.concatenate([near, glance[glance[:, 0] >= min_confidence]])
        found = found[np.argsort(-found[:, 0])]  # many are equally certain; the first of them stands for its face
        rows = _without_parts(_averaged(without_doubles(found), found))
        rows[:, 1:] /= scale
        return as_detections(rows)

    def _glance(self, image: BgrImage, min_confidence: float) -> Rows:
        """The larger faces, in pixels of `image`."""
        copy, scale = shrink(image, _GLANCE_PX)
        rows = search(self._session, np.asarray(framed(copy, _FRAME_PX), np.uint8), min_confidence)
        rows[:, _ACROSS_AND_DOWN] -= _FRAME_PX
        rows = rows[np.sqrt(rows[:, 3] * rows[:, 4]) >= _LEAST_FROM_AFAR_PX]
        rows[:, 1:] /= scale
        return np.asarray(rows, np.float32)


def _seen_from_afar(near: Rows, glance: Rows, shrunk_by: float) -> Rows:
    """`near` without large faces that the glance does not see: close to, a blurred body may look like a blurred face."""
    small = np.sqrt(_areas(near)) < _SURELY_SEEN_PX * shrunk_by
    return np.asarray(near[small | (_overlaps(near, glance) >= _SEEN_IOU).any(axis=1)], np.float32)


def _averaged(faces: Rows, found: Rows) -> Rows:
    """Each face with the mean place of all that was found of it, weighted by confidence, which is steadier than the best."""
    weights = np.maximum(found[:, 0], _LEAST_WEIGHT) * (_overlaps(faces, found) >= _SAME_IOU)
    places = weights @ found[:, 1:] / weights.sum(axis=1, keepdims=True)
    return np.hstack([faces[:, :1], places])


def _without_parts(rows: Rows) -> Rows:
    """Without what lies in a larger face and is less certain: an eye and a nose look like a face of their own."""
    areas = _areas(rows)
    inside = _common(rows, rows) > _MOSTLY * areas[:, np.newaxis]
    larger = (areas[:, np.newaxis] < areas) & (areas[:, np.newaxis] > _PART * areas)
    of_larger = inside & larger & (rows[:, :1] < rows[:, 0])
    return np.asarray(rows[~of_larger.any(axis=1)], np.float32)


def _overlaps(faces: Rows, found: Rows) -> _Floats:
    """(faces, found) the intersection over union of each pair of boxes."""
    common = _common(faces, found)
    union = _areas(faces)[:, np.newaxis] + _areas(found) - common
    return np.asarray(common / np.maximum(union, _LEAST_AREA), np.float32)


def _common(faces: Rows, found: Rows) -> _Floats:
    """(faces, found) the area that each pair of boxes has in common."""
    near = np.maximum(faces[:, np.newaxis, 1:3], found[:, 1:3])
    far = np.minimum((faces[:, 1:3] + faces[:, 3:5])[:, np.newaxis], found[:, 1:3] + found[:, 3:5])
    return np.asarray(np.maximum(far - near, 0).prod(axis=2), np.float32)


def _areas(rows: Rows) -> _Floats:
    return rows[:, 3] * rows[:, 4]


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
