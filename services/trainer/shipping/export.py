"""`export`: turns the best weights of a run into a model directory that the API serves."""

from collections.abc import Sequence
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
from services.trainer.judging.calibration import fit_calibration, shares, with_calibration
from services.trainer.judging.card import model_card
from services.trainer.judging.evaluate import evaluate, own_rows
from services.trainer.judging.priors import choose_prior, prior_scores
from services.trainer.judging.provenance import is_ours
from services.trainer.shipping.fold import widen_scalars
from services.trainer.shipping.mirrored import with_mirror_images
from services.trainer.training.config import TrainConfig
from services.trainer.training.predictors import (
    Predict,
    answer_names,
    keras_predictor,
    open_predictor,
    with_default_prior,
)
from services.trainer.training.workdir import Workdir, best_epoch
from shared.answers import AnswerName
from shared.atomic import atomic_directory, write_text
from shared.boxes import CropGeometry, DetectorName
from shared.choices import Choices
from shared.emotions import EMOTIONS
from shared.manifest import CARD_FILE, MODEL_FILE, Answer, Golden, ModelManifest, Training, sha256_of
from shared.scores import Scores

# Read by every ONNX Runtime since 1.14 (February 2023), and sufficient for all our networks.
OPSET: Final = 17
IR_VERSION: Final = 8
MAX_DIFFERENCE: Final = 1e-4
PARITY_IMAGES: Final = 256
WEIGHTS_LICENSE: Final = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export: how much ONNX Runtime differed from Keras, and the scores that chose the default prior."""

    directory: Path
    difference: float
    manifest: ModelManifest
    priors: dict[float, Scores]


def export(
    workdir: Path, data: Dataset, geometry: dict[DetectorName, CropGeometry], directory: Path, mirror: bool = False
) -> Exported:
    """Write model.onnx, manifest.json and card.md of the best model of `workdir` to `directory`.

    With `mirror` the graph reads each face together with its mirror image. The calibration of each answer, fitted on the
    validation split, is part of the graph. `directory` changes only when every check passed. Raises ExportRefused when
    ONNX Runtime's probabilities differ from Keras's by more than 1e-4 on 256 validation images, WorkdirError when the
    run has no model or was trained on other data.
    """
    home = _run_on(workdir, data)
    training = _training(home)
    trained = with_mirror_images(home.load_best()) if mirror else home.load_best()
    calibrated, answers = _calibrated(trained, data)
    with atomic_directory(directory) as new:
        write_onnx(calibrated, new / MODEL_FILE)
        manifest = ModelManifest(
            name=directory.name,
            version=sha256_of(new / MODEL_FILE)[:12],
            sha256=sha256_of(new / MODEL_FILE),
            labels=EMOTIONS,
            mirrored=mirror,
            crop=geometry,
            answers=answers,
            golden=Golden.of(golden_face()),
            opset=OPSET,
            ir_version=IR_VERSION,
            parameters=calibrated.count_params(),
            training=training,
            metrics={},
            license=WEIGHTS_LICENSE if is_ours(training) else "other",
        )
        manifest.save(new)
        predict = open_predictor(new)
        difference = _max_difference(keras_predictor(calibrated), predict, data)
        manifest, priors = measured(manifest, predict, data)
        manifest.save(new)
        write_text(new / CARD_FILE, model_card(manifest))
    return Exported(directory, difference, manifest, priors)


def _run_on(workdir: Path, data: Dataset) -> Workdir:
    home = Workdir(workdir)
    run = home.read_run()
    if run["data_sha256"] != data.sha256:
        raise WorkdirError(
            f"{workdir} was trained on other data ({run['data_sha256'][:12]}… instead of {data.sha256[:12]}…)."
        )
    return home


def measured(manifest: ModelManifest, predict: Predict, data: Dataset) -> tuple[ModelManifest, dict[float, Scores]]:
    """`manifest` with the scores of `predict` and its default prior, and the scores by which that was chosen."""
    priors: dict[float, Scores] = {}
    frequencies = manifest.answers[manifest.default_answer].frequencies
    if frequencies is not None:
        validation = data.split("validation")
        priors = prior_scores(predict(validation.pixels), validation, frequencies)
    prior = choose_prior(priors)
    manifest = manifest.model_copy(update={"default_prior": prior, "metrics": evaluate(predict, data, SPLITS[1:])})
    if prior.kind != "natural":
        weighed = evaluate(with_default_prior(predict, Choices.of(manifest)), data, SPLITS[1:])
        scores = {split: by_answer[manifest.default_answer] for split, by_answer in weighed.items()}
        manifest = manifest.model_copy(update={"default_prior": prior.model_copy(update={"metrics": scores})})
    return manifest, priors


def golden_face() -> npt.NDArray[np.uint8]:
    """A face free to distribute: the astronaut of scikit-image (public domain), cropped as in FER2013."""
    from skimage import color, data, transform

    left, top, side = 173, 62, 100
    face = color.rgb2gray(data.astronaut())[top : top + side, left : left + side]
    small = transform.resize(face, (FACE_SIZE_PX, FACE_SIZE_PX), anti_aliasing=True)
    return np.asarray(np.round(small * 255), np.uint8)


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write a network as ONNX: pinned versions, any batch size, outputs named by answer, the labels in its metadata."""
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only models that have been called
    model.export(path, format="onnx", opset_version=OPSET, verbose=False)
    graph = onnx.load(path)
    graph.ir_version = IR_VERSION
    _name_outputs(graph.graph, answer_names(model))
    widen_scalars(graph)
    onnx.helper.set_model_props(graph, {"labels": ",".join(EMOTIONS)})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def _name_outputs(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    renamed = {output.name: name for output, name in zip(graph.output, names, strict=True)}
    for output in graph.output:
        output.name = renamed[output.name]
    for node in graph.node:
        for places in (node.input, node.output):
            for number, place in enumerate(places):
                places[number] = renamed.get(place, place)


def _calibrated(trained: keras.Model, data: Dataset) -> tuple[keras.Model, dict[AnswerName, Answer]]:
    """The network with the calibration of each answer, fitted on its own yardstick, and what is known of the answers."""
    validation = data.split("validation")
    judged = {}
    for name, probabilities in keras_predictor(trained)(validation.pixels).items():
        rows, truth = own_rows(name, validation)
        judged[name] = (probabilities[rows], truth)
    calibrations = {name: fit_calibration(*pair) for name, pair in judged.items()}
    model = with_calibration(trained, calibrations)
    golden = keras_predictor(model)(golden_face()[np.newaxis])
    answers = {
        name: Answer(
            temperature=calibrations[name].temperature,
            shift=calibrations[name].shift,
            frequencies=shares(truth),
            golden=tuple(round(float(p), 6) for p in golden[name][0]),
        )
        for name, (_, truth) in judged.items()
    }
    return model, answers


def _training(home: Workdir) -> Training:
    run, history = home.read_run(), home.read_history()
    best = best_epoch(history, TrainConfig.model_validate(run["config"]))
    about: dict[str, Any] = {
        "network": run["config"]["network"],
        "seed": run["config"]["seed"],
        "epochs": len(history),
        "best_epoch": int(best["epoch"]),
        "train_seconds": round(sum(record["seconds"] for record in history)),
        "onnx": version("onnx"),
    }
    return Training.model_validate(run | about)


def _max_difference(ours: Predict, theirs: Predict, data: Dataset) -> float:
    faces = data.split("validation").pixels[:PARITY_IMAGES]
    keras_said, onnx_said = ours(faces), theirs(faces)
    difference = max(float(np.abs(keras_said[name] - onnx_said[name]).max()) for name in keras_said)
    if difference > MAX_DIFFERENCE:
        raise ExportRefused(
            f"The probabilities of ONNX Runtime and Keras differ by up to {difference:.2g} on {len(faces)} images "
            f"(allowed {MAX_DIFFERENCE}); nothing was written."
        )
    return difference
