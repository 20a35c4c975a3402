"""`export`: the best weights of a run in, a model directory out that the API serves."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import onnx

from services.trainer.data.dataset import FACE_SIZE_PX, SPLITS, Dataset
from services.trainer.errors import ExportRefused, WorkdirError
from services.trainer.judging.calibration import fit_temperature, with_temperature
from services.trainer.judging.card import model_card
from services.trainer.judging.evaluate import evaluate
from services.trainer.training.config import TrainConfig
from services.trainer.training.predictors import Predict, keras_predictor, open_predictor
from services.trainer.training.workdir import Workdir, best_epoch
from shared.atomic import atomic_directory, write_text
from shared.boxes import CropGeometry, DetectorName
from shared.emotions import EMOTIONS
from shared.manifest import CARD_FILE, MODEL_FILE, Golden, ModelManifest, sha256_of

# Old enough for every ONNX Runtime since 1.14 (February 2023), new enough for all that our networks use.
OPSET: Final = 17
IR_VERSION: Final = 8
LARGEST_DIFFERENCE: Final = 1e-4
PARITY_IMAGES: Final = 256
WEIGHTS_LICENSE: Final = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made: where, and by how much ONNX Runtime differed from Keras."""

    directory: Path
    difference: float
    manifest: ModelManifest


def export(workdir: Path, data: Dataset, geometry: dict[DetectorName, CropGeometry], directory: Path) -> Exported:
    """Write model.onnx, manifest.json and card.md of the best model of `workdir` to `directory`.

    The temperature that calibrates it best on the validation split is part of the graph. `directory` changes
    only when everything held. Raises ExportRefused when ONNX Runtime answers otherwise than Keras by more than
    1e-4 on 256 validation images, WorkdirError when the run has no model or was trained on other data.
    """
    home = Workdir(workdir)
    run, history = home.read_run(), home.read_history()
    if run["data_sha256"] != data.sha256:
        raise WorkdirError(
            f"{workdir} was trained on other data ({run['data_sha256'][:12]}… instead of {data.sha256[:12]}…)."
        )
    trained = home.load_best()
    validation = data.split("validation")
    temperature = fit_temperature(keras_predictor(trained)(validation.pixels), validation.labels)
    calibrated = with_temperature(trained, temperature)
    with atomic_directory(directory) as new:
        write_onnx(calibrated, new / MODEL_FILE)
        manifest = _manifest(directory.name, new, run, history, geometry, calibrated, temperature)
        manifest.save(new)
        predict = open_predictor(new)
        difference = _largest_difference(keras_predictor(calibrated), predict, validation.pixels[:PARITY_IMAGES])
        manifest = manifest.model_copy(update={"metrics": dict(evaluate(predict, data, SPLITS[1:]))})
        manifest.save(new)
        write_text(new / CARD_FILE, model_card(manifest))
    return Exported(directory, difference, manifest)


def golden_face() -> npt.NDArray[np.uint8]:
    """A face that may be given away: the astronaut of scikit-image (public domain), cut as FER2013's are."""
    from skimage import color, data, transform

    left, top, side = 173, 62, 100
    face = color.rgb2gray(data.astronaut())[top : top + side, left : left + side]
    small = transform.resize(face, (FACE_SIZE_PX, FACE_SIZE_PX), anti_aliasing=True)
    return np.asarray(np.round(small * 255), np.uint8)


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write a network as ONNX with pinned versions, any batch size, and the labels in its metadata."""
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only what was called
    model.export(path, format="onnx", opset_version=OPSET, verbose=False)
    graph = onnx.load(path)
    graph.ir_version = IR_VERSION
    onnx.helper.set_model_props(graph, {"labels": ",".join(EMOTIONS)})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def _manifest(
    name: str,
    directory: Path,
    run: dict[str, Any],
    history: list[dict[str, float]],
    geometry: dict[DetectorName, CropGeometry],
    model: keras.Model,
    temperature: float,
) -> ModelManifest:
    face = golden_face()
    best = best_epoch(history, TrainConfig.model_validate(run["config"]))
    sha256 = sha256_of(directory / MODEL_FILE)
    return ModelManifest(
        name=name,
        version=sha256[:12],
        sha256=sha256,
        labels=EMOTIONS,
        crop=geometry,
        golden=Golden.of(face, keras_predictor(model)(face[np.newaxis])[0]),
        opset=OPSET,
        ir_version=IR_VERSION,
        parameters=model.count_params(),
        training=run
        | {
            "network": run["config"]["network"],
            "seed": run["config"]["seed"],
            "epochs": len(history),
            "best_epoch": int(best["epoch"]),
            "train_seconds": round(sum(record["seconds"] for record in history)),
            "temperature": temperature,
            "onnx": version("onnx"),
        },
        metrics={},
        license="other" if run.get("pretrained") else WEIGHTS_LICENSE,
    )


def _largest_difference(ours: Predict, theirs: Predict, faces: npt.NDArray[np.uint8]) -> float:
    difference = float(np.abs(ours(faces) - theirs(faces)).max())
    if difference > LARGEST_DIFFERENCE:
        raise ExportRefused(
            f"ONNX Runtime answers otherwise than Keras by {difference:.2g} on {len(faces)} images "
            f"(allowed {LARGEST_DIFFERENCE}); nothing was written."
        )
    return difference
