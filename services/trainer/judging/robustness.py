"""How accuracy falls when pictures get worse: light, noise, blur, turned heads, covered parts (paper, 11)."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import Dataset
from services.trainer.training.predictors import Predict
from shared.pipeline.crop import MID_GREY
from shared.pipeline.decode import GreyImage

Harm: TypeAlias = Callable[[GreyImage, float, np.random.Generator], npt.NDArray[Any]]


def robustness(predict: Predict, part: Dataset, seed: int = 0) -> dict[str, Any]:
    """Accuracy on `part` as it is, and under each harm of HARMS at five strengths.

    The same images and the same noise for every model: differences between models are differences of the models.
    """
    table = {}
    for name, (harm, strengths) in HARMS.items():
        accuracies = {}
        for strength in strengths:
            rng = np.random.default_rng(seed)
            harmed = np.stack([_as_face(harm(face, strength, rng)) for face in part.pixels])
            accuracies[str(strength)] = _accuracy(predict(harmed), part.labels)
        table[name] = accuracies
    return {"images": len(part), "clean": _accuracy(predict(part.pixels), part.labels), "harms": table}


def as_markdown(result: dict[str, Any]) -> list[str]:
    """The table as Markdown: a row a harm, from the weakest to the strongest; strengths in brackets."""
    lines = [
        f"Accuracy on {result['images']} images, {result['clean']:.3f} as they are:",
        "",
        "| harm | 1 | 2 | 3 | 4 | 5 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, accuracies in result["harms"].items():
        cells = " | ".join(f"{accuracy:.3f} ({strength})" for strength, accuracy in accuracies.items())
        lines.append(f"| {name} | {cells} |")
    return lines


def _accuracy(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int8]) -> float:
    return round(float((probabilities.argmax(axis=1) == labels).mean()), 4)


def _as_face(pixels: npt.NDArray[Any]) -> GreyImage:
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _brightness(face: GreyImage, factor: float, _: np.random.Generator) -> npt.NDArray[Any]:
    return np.asarray(face * factor)


def _contrast(face: GreyImage, factor: float, _: np.random.Generator) -> npt.NDArray[Any]:
    return np.asarray((face - face.mean()) * factor + face.mean())


def _blur(face: GreyImage, sigma_px: float, _: np.random.Generator) -> npt.NDArray[Any]:
    return np.asarray(cv2.GaussianBlur(face, (0, 0), sigma_px))


def _noise(face: GreyImage, deviation: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    return face + rng.normal(0, deviation, face.shape)


def _jpeg(face: GreyImage, quality: float, _: np.random.Generator) -> npt.NDArray[Any]:
    data = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


def _rotation(face: GreyImage, degrees: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    side = face.shape[0]
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees * rng.choice([-1, 1]), 1.0)
    return np.asarray(cv2.warpAffine(face, turn, (side, side), borderMode=cv2.BORDER_REPLICATE))


def _resolution(face: GreyImage, side_px: float, _: np.random.Generator) -> npt.NDArray[Any]:
    small = cv2.resize(face, (int(side_px), int(side_px)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, face.shape, interpolation=cv2.INTER_LINEAR))


def _cover(top: float, bottom: float) -> Harm:
    """Cover a share of the band from `top` to `bottom` (of the side), growing from its middle."""

    def harm(face: GreyImage, share: float, _: np.random.Generator) -> npt.NDArray[Any]:
        side, middle, half = face.shape[0], (top + bottom) / 2, (bottom - top) / 2 * share
        covered = face.copy()
        covered[round((middle - half) * side) : round((middle + half) * side)] = MID_GREY
        return covered

    return harm


def _cover_side(face: GreyImage, share: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    width = round(face.shape[1] * share)
    covered = face.copy()
    if rng.random() < 0.5:
        covered[:, :width] = MID_GREY
    else:
        covered[:, -width:] = MID_GREY
    return covered


HARMS: Final[dict[str, tuple[Harm, tuple[float, ...]]]] = {
    "darker, factor": (_brightness, (0.8, 0.6, 0.4, 0.25, 0.15)),
    "brighter, factor": (_brightness, (1.2, 1.4, 1.7, 2.0, 2.5)),
    "less contrast, factor": (_contrast, (0.8, 0.6, 0.4, 0.25, 0.15)),
    "blur, sigma in px": (_blur, (0.5, 1.0, 1.5, 2.0, 3.0)),
    "noise, deviation of 255": (_noise, (5, 10, 20, 30, 45)),
    "JPEG, quality": (_jpeg, (60, 40, 25, 15, 8)),
    "turned, degrees": (_rotation, (5, 10, 20, 30, 45)),
    "eyes covered, share": (_cover(0.2, 0.5), (0.2, 0.4, 0.6, 0.8, 1.0)),
    "mouth covered, share": (_cover(0.62, 0.95), (0.2, 0.4, 0.6, 0.8, 1.0)),
    "one side covered, share": (_cover_side, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "low resolution, side in px": (_resolution, (36, 24, 16, 12, 8)),
}
