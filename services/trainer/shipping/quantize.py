"""`quantize`: a model directory in, the same model in 8-bit integers out, when that loses little."""

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from services.trainer.data.dataset import SPLITS, Dataset
from services.trainer.errors import DataError, ExportRefused
from services.trainer.judging.card import model_card
from services.trainer.judging.evaluate import evaluate
from services.trainer.shipping.speed import Comparison, compare_speed
from services.trainer.training.predictors import open_predictor
from shared.atomic import atomic_directory, write_text
from shared.manifest import CARD_FILE, MODEL_FILE, Golden, ModelManifest, load_manifest, sha256_of
from shared.pipeline.classify import unchecked_classifier
from shared.pipeline.preprocess import FaceBatch, to_input

Cpu: TypeAlias = Literal["auto", "vnni", "avx2", "arm"]
MOST_LOST: Final = 0.005  # of validation accuracy
CALIBRATION_FACES: Final = 512
# Kernels of other processors round otherwise: integers answer a golden face less exactly than floats.
GOLDEN_TOLERANCE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Quantized:
    """What came of it: the directory, validation accuracy before and after, and size and speed."""

    directory: Path
    accuracy: tuple[float, float]
    comparison: Comparison
    reduced_range: bool


def quantize(source: Path, data: Dataset, out: Path, cpu: Cpu = "auto", most_lost: float = MOST_LOST) -> Quantized:
    """Write the INT8 model of `source` to `out`: static, QDQ, per channel, calibrated on training faces.

    Activations are unsigned and weights signed, which is what x86's integer instructions multiply. Without VNNI those
    instructions overflow on full 8-bit weights, so these then keep 7 bits. Raises ExportRefused when validation
    accuracy falls by more than `most_lost`; `out` is then as it was.
    """
    manifest = load_manifest(source)
    if manifest.training["data_sha256"] != data.sha256:
        raise DataError(f"{source} was trained on other data; its figures cannot be compared with figures on this.")
    reduced_range = needs_reduced_range(cpu)
    with atomic_directory(out) as new:
        _write_int8(source / MODEL_FILE, new / MODEL_FILE, _calibration_faces(data), reduced_range)
        comparison = compare_speed(source / MODEL_FILE, new / MODEL_FILE)
        made = {
            "from_version": manifest.version,
            "scheme": "static QDQ, U8 activations, S8 weights, per channel",
            "reduced_range": reduced_range,
            "calibration_faces": CALIBRATION_FACES,
            **comparison.as_dict(),
        }
        _described(manifest, out.name, new, made).save(new)
        before, after = manifest.metrics, evaluate(open_predictor(new), data, SPLITS[1:])
        accuracy = (before["validation"]["all"]["accuracy"], after["validation"]["all"]["accuracy"])
        if accuracy[0] - accuracy[1] > most_lost:
            raise ExportRefused(
                f"INT8 takes validation accuracy from {accuracy[0]:.4f} to {accuracy[1]:.4f}, more than {most_lost} "
                "allowed; nothing was written. Allow more by --most-lost."
            )
        made["fp32_accuracy"] = {split: before[split]["all"]["accuracy"] for split in SPLITS[1:]}
        final = _described(manifest, out.name, new, made).model_copy(update={"metrics": dict(after)})
        final.save(new)
        write_text(new / CARD_FILE, model_card(final))
    return Quantized(out, accuracy, comparison, reduced_range)


def needs_reduced_range(cpu: Cpu) -> bool:
    """Whether 8-bit products overflow on the CPU that the model is meant for; auto: this one."""
    if cpu != "auto":
        return cpu == "avx2"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True  # the safe one where nobody can tell


class _Faces(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime ships no types
    """Real faces, a few at a time, under the name of the model's input."""

    def __init__(self, name: str, faces: FaceBatch) -> None:
        self._batches: Iterator[dict[str, FaceBatch]] = iter([{name: part} for part in np.array_split(faces, 16)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _calibration_faces(data: Dataset) -> npt.NDArray[np.uint8]:
    train = data.split("train")
    rows = np.random.default_rng(0).permutation(len(train))[:CALIBRATION_FACES]
    return train.pixels[rows]


def _write_int8(source: Path, target: Path, faces: npt.NDArray[np.uint8], reduced_range: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        # Folds normalization into convolutions and infers shapes; the symbolic part needs sympy and finds no more here.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared)
        quantize_static(
            str(prepared),
            str(target),
            _Faces(graph.graph.input[0].name, to_input(faces)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduced_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # The mean of 16 batches' extremes: one odd face in 512 would else make the steps coarse for all.
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
            nodes_to_exclude=_after_the_logits(graph) + _lone_normalization(graph),
        )
    written = onnx.load(target)
    onnx.helper.set_model_props(written, {prop.key: prop.value for prop in onnx.load(source).metadata_props})
    onnx.save(written, target)


def _after_the_logits(graph: onnx.ModelProto) -> list[str]:
    """The nodes of the temperature and the softmax: probabilities stay in float."""
    nodes = list(graph.graph.node)
    last = max(number for number, node in enumerate(nodes) if node.op_type in ("Gemm", "MatMul", "Conv"))
    reached, tail = set(nodes[last].output), []
    for node in nodes:
        # The bias of the last product, where it is a node of its own, still belongs to the logits.
        if reached.intersection(node.input) and node.op_type != "Add":
            tail.append(node.name)
        if reached.intersection(node.input):
            reached.update(node.output)
    return tail


def _lone_normalization(graph: onnx.ModelProto) -> list[str]:
    """Normalization that folds into no convolution, as it stands after an activation: a factor and a term a channel.

    The factors differ widely from channel to channel (a channel that never answers has the largest), and 8 bits have one
    scale for all of them: the paper's network lost ten points of accuracy by it.
    """
    per_channel = {constant.name for constant in graph.graph.initializer if np.prod(constant.dims) > 1}
    factors = [node for node in graph.graph.node if node.op_type == "Mul" and per_channel.intersection(node.input)]
    scaled = {output for node in factors for output in node.output}
    terms = [node for node in graph.graph.node if node.op_type == "Add" and scaled.intersection(node.input)]
    return [node.name for node in factors + terms]


def _described(manifest: ModelManifest, name: str, directory: Path, made: dict[str, Any]) -> ModelManifest:
    """The manifest of the INT8 model: its own hash, and its own answer to the same golden face."""
    sha256 = sha256_of(directory / MODEL_FILE)
    face = manifest.golden.pixels(manifest.input.size_px)
    answer = unchecked_classifier(directory).classify(to_input(face[np.newaxis]))[0]
    return manifest.model_copy(
        update={
            "name": name,
            "version": sha256[:12],
            "sha256": sha256,
            "precision": "int8",
            "robustness": None,  # of the model it comes from
            "golden": Golden.of(face, answer, GOLDEN_TOLERANCE),
            "training": manifest.training | {"quantization": made},
        }
    )
