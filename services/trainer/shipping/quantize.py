"""`quantize`: the same model in 8-bit integers, unless it loses too much accuracy."""

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
from services.trainer.judging.evaluate import own_scores
from services.trainer.shipping.export import measured
from services.trainer.shipping.fold import fold_mean_pooling
from services.trainer.shipping.speed import Comparison, compare_speed
from services.trainer.training.predictors import Predict, onnx_predictor, open_predictor
from shared.answers import AnswerName
from shared.atomic import atomic_directory, write_text
from shared.manifest import CARD_FILE, MODEL_FILE, Golden, ModelManifest, Quantization, load_manifest, sha256_of
from shared.pipeline.classify import unchecked_classifier
from shared.pipeline.preprocess import FaceBatch, to_input
from shared.scores import AnswerScores

Cpu: TypeAlias = Literal["auto", "vnni", "avx2", "arm"]
MAX_LOSS: Final = 0.005  # of validation accuracy
CALIBRATION_FACES: Final = 512
# Integer kernels round differently from processor to processor, so the golden answer is less exact than with floats.
GOLDEN_TOLERANCE: Final = 0.05
_PRODUCTS: Final = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Quantized:
    """The result: the directory, the validation accuracy of each answer before and after, and size and speed."""

    directory: Path
    accuracy: dict[AnswerName, tuple[float, float]]
    comparison: Comparison
    reduced_range: bool


def quantize(source: Path, data: Dataset, out: Path, cpu: Cpu = "auto", max_loss: float = MAX_LOSS) -> Quantized:
    """Write the INT8 model of `source` to `out`: static, QDQ, per channel, calibrated on training faces.

    Activations are unsigned and weights signed, which is what x86's integer instructions multiply. Without VNNI those
    instructions overflow on full 8-bit weights, so these then keep 7 bits. Raises ExportRefused when the validation
    accuracy of any answer, on its own yardstick, falls by more than `max_loss`; `out` is then unchanged.
    """
    manifest = load_manifest(source)
    if manifest.training.data_sha256 != data.sha256:
        raise DataError(f"{source} was trained on other data; its figures cannot be compared with figures on this.")
    reduced_range = needs_reduced_range(cpu)
    with atomic_directory(out) as new:
        _write_int8(source / MODEL_FILE, new / MODEL_FILE, _calibration_faces(data), reduced_range)
        comparison = compare_speed(source / MODEL_FILE, new / MODEL_FILE)
        made = Quantization(
            from_version=manifest.version,
            scheme="static QDQ, U8 activations, S8 weights, per channel",
            reduced_range=reduced_range,
            calibration_faces=CALIBRATION_FACES,
            fp32_accuracy={split: _own_accuracies(manifest.metrics[split]) for split in SPLITS[1:]},
            **comparison.as_dict(),
        )
        final, _ = measured(_described(manifest, out.name, new, made), _open(new, manifest), data)
        before, after = (_own_accuracies(m.metrics["validation"]) for m in (manifest, final))
        accuracy = {name: (before[name], after[name]) for name in before}
        _refuse_losses(accuracy, max_loss)
        final.save(new)
        open_predictor(new)  # verified as it will be when it is served
        write_text(new / CARD_FILE, model_card(final))
    return Quantized(out, accuracy, comparison, reduced_range)


def _own_accuracies(answers: dict[AnswerName, AnswerScores]) -> dict[AnswerName, float]:
    return {name: own_scores(name, scores).accuracy for name, scores in answers.items()}


def _refuse_losses(accuracy: dict[AnswerName, tuple[float, float]], max_loss: float) -> None:
    for name, (before, after) in accuracy.items():
        if before - after > max_loss:
            raise ExportRefused(
                f"INT8 takes the validation accuracy of {name} from {before:.4f} to {after:.4f}, more than the {max_loss} "
                "allowed; nothing was written. Allow more by --max-loss."
            )


def needs_reduced_range(cpu: Cpu) -> bool:
    """Whether 8-bit products overflow on the CPU the model is meant for; auto: this one."""
    if cpu != "auto":
        return cpu == "avx2"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True  # unknown: take the safe one


class _Faces(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime ships no types
    """Real faces in a few batches, under the name of the model's input."""

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
        # Folds normalization into convolutions and infers shapes; symbolic shapes would need sympy and add nothing here.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared)
        fold_mean_pooling(graph.graph)
        onnx.save(graph, prepared)
        quantize_static(
            str(prepared),
            str(target),
            _Faces(graph.graph.input[0].name, to_input(faces)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduced_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # The mean of 16 batches' extremes: otherwise one odd face in 512 would make the steps coarse for all.
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
            nodes_to_exclude=_before_the_first_product(graph) + _after_the_logits(graph) + _lone_normalization(graph),
        )
    written = onnx.load(target)
    onnx.helper.set_model_props(written, {prop.key: prop.value for prop in onnx.load(source).metadata_props})
    onnx.save(written, target)


def _before_the_first_product(graph: onnx.ModelProto) -> list[str]:
    """The nodes that scale and mirror the face: a few thousand numbers, on which 8-bit operators take ten times as long."""
    names: list[str] = []
    for node in graph.graph.node:
        if node.op_type in _PRODUCTS:
            break
        names.append(node.name)
    return names


def _after_the_logits(graph: onnx.ModelProto) -> list[str]:
    """The nodes of the temperatures and the softmax of each answer: probabilities stay in float."""
    products = {output for node in graph.graph.node if node.op_type in _PRODUCTS for output in node.output}
    needed, tail = {output.name for output in graph.graph.output}, []
    for node in reversed(graph.graph.node):  # which are in the order of computation
        if not needed.intersection(node.output) or node.op_type in _PRODUCTS:
            continue
        needed.update(node.input)
        # The bias of the last product, where it is a node of its own, still belongs to the logits.
        if node.op_type == "Add" and products.intersection(node.input):
            continue
        tail.append(node.name)
    return tail


def _lone_normalization(graph: onnx.ModelProto) -> list[str]:
    """Normalization after an activation, which cannot be folded into a convolution: a factor and a term per channel.

    The factors differ widely from channel to channel (a dead channel has the largest), and 8 bits have one scale for all
    of them: it cost the paper's network ten points of accuracy.
    """
    per_channel = {constant.name for constant in graph.graph.initializer if np.prod(constant.dims) > 1}
    factors = [node for node in graph.graph.node if node.op_type == "Mul" and per_channel.intersection(node.input)]
    scaled = {output for node in factors for output in node.output}
    terms = [node for node in graph.graph.node if node.op_type == "Add" and scaled.intersection(node.input)]
    return [node.name for node in factors + terms]


def _open(directory: Path, manifest: ModelManifest) -> Predict:
    return onnx_predictor(unchecked_classifier(directory, manifest))


def _described(manifest: ModelManifest, name: str, directory: Path, made: Quantization) -> ModelManifest:
    """The manifest of the INT8 model: its own hash, and its own answers to the same golden face."""
    sha256 = sha256_of(directory / MODEL_FILE)
    face = manifest.golden.pixels(manifest.input.size_px)
    golden = _open(directory, manifest)(face[np.newaxis])
    return manifest.model_copy(
        update={
            "name": name,
            "version": sha256[:12],
            "sha256": sha256,
            "precision": "int8",
            # These were measured on the fp32 model.
            "robustness": None,
            "steadiness": None,
            "groups": None,
            "golden": Golden.of(face, GOLDEN_TOLERANCE),
            "answers": {
                answer: known.model_copy(update={"golden": tuple(round(float(p), 6) for p in golden[answer][0])})
                for answer, known in manifest.answers.items()
            },
            "training": manifest.training.model_copy(update={"quantization": made}),
        }
    )
