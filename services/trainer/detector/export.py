"""`detector export`: a trained network to models/detector/, in the form that the service runs."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import onnx

from services.trainer.detector.calibration import SERVED_AT, Calibration, calibrated
from services.trainer.detector.card import detector_card
from services.trainer.detector.network import STRIDES
from services.trainer.detector.onnx_graph import INPUT, IR_VERSION, OPSET, detector_graph, stretched
from services.trainer.detector.scenes import Composer
from services.trainer.detector.sources import Sources
from services.trainer.detector.train import HISTORY_FILE, MODEL_FILE, RUN_FILE
from services.trainer.errors import ExportRefused, WorkdirError
from shared.atomic import atomic_directory, write_text
from shared.detector_manifest import DetectorManifest
from shared.manifest import CARD_FILE, sha256_of
from shared.manifest import MODEL_FILE as ONNX_FILE
from shared.pipeline.session import open_session
from shared.pipeline.single_shot import OUTPUTS

LARGEST_DIFFERENCE: Final = 1e-3  # of a score, or of a place in strides
LICENSE: Final = "Apache-2.0"


def export(
    workdir: Path, data: Path, figures: dict[str, Any], least_face_px: float, directory: Path
) -> DetectorManifest:
    """Write model.onnx, manifest.json and card.md of a run's averaged network to `directory`.

    Scores are calibrated on scenes of held-out pictures. Raises ExportRefused when ONNX Runtime's
    answers differ from Keras's, WorkdirError when there is no run.
    """
    (run, history, model), sources = _trained(workdir), Sources.load(data)
    fitted = calibrated(model, sources, run["config"]["side_px"])
    graph = detector_graph(model, fitted.scores, fitted.stretch)
    _check_parity(model, graph, fitted.stretch, sources, run["config"]["side_px"])
    with atomic_directory(directory) as new:
        onnx.save(graph, new / ONNX_FILE)
        sha256 = sha256_of(new / ONNX_FILE)
        manifest = DetectorManifest(
            name="mien",
            version=sha256[:12],
            sha256=sha256,
            strides=STRIDES,
            least_face_px=least_face_px,
            min_confidence=SERVED_AT,
            opset=OPSET,
            ir_version=IR_VERSION,
            parameters=model.count_params(),
            training=run | _trained_to(history[-1], fitted),
            metrics=figures,
            license=LICENSE,
        )
        manifest.save(new)
        write_text(new / CARD_FILE, detector_card(manifest))
    return manifest


def _trained_to(last: dict[str, Any], fitted: Calibration) -> dict[str, Any]:
    """What the manifest says of the end of a run, and of its calibration."""
    return {
        "steps": last["step"],
        "train_seconds": last["seconds"],
        "validation": {name: value for name, value in last.items() if name.startswith("val_")},
        "threshold": asdict(fitted.threshold),
        "stretch": fitted.stretch,
        "versions": {name: version(name) for name in ("keras", "onnx", "opencv-python-headless")},
    }


def _trained(workdir: Path) -> tuple[dict[str, Any], list[dict[str, Any]], keras.Model]:
    """What a run was started with, its history, and its averaged network. Raises WorkdirError."""
    try:
        run = json.loads((workdir / RUN_FILE).read_text(encoding="utf-8"))
        history = [json.loads(line) for line in (workdir / HISTORY_FILE).read_text(encoding="utf-8").splitlines()]
        return run, history, keras.saving.load_model(workdir / MODEL_FILE, compile=False)
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{workdir} holds no trained detector: {error}.") from error


def _check_parity(model: keras.Model, graph: onnx.ModelProto, stretch: float, sources: Sources, side: int) -> None:
    picture = Composer(sources, side, "calibration").scene(np.random.default_rng(0)).pixels.astype(np.float32)
    ours = np.asarray(model.predict_on_batch(picture[np.newaxis]))[0]
    session = open_session(graph.SerializeToString(), threads=1)
    theirs = session.run(OUTPUTS, {INPUT: picture.transpose(2, 0, 1)[np.newaxis]})
    boxes, points = (np.concatenate([theirs[n][0] for n in range(kind, 12, 4)]) for kind in (2, 3))
    corner = np.array([0.5, 0.5, 0, 0], np.float32)
    expected = stretched(ours[:, 5:].T, stretch).T
    difference = max(float(np.abs(boxes - ours[:, 1:5] - corner).max()), float(np.abs(points - expected - 0.5).max()))
    if not difference <= LARGEST_DIFFERENCE:
        raise ExportRefused(f"ONNX Runtime differs from Keras by {difference:.2g}; nothing was written.")
