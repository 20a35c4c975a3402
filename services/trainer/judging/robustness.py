"""Accuracy on degraded pictures: light, noise, blur, turned heads, covered parts (paper, 11)."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import Dataset, Split
from services.trainer.judging.evaluate import own_rows
from services.trainer.judging.tables import harm_table
from services.trainer.training.predictors import Answers, Predict
from shared.answers import AnswerName
from shared.pictures import GreyImage
from shared.pipeline.crop import MID_GREY
from shared.scores import Harms, Robustness

Harm: TypeAlias = Callable[[GreyImage, float, np.random.Generator], npt.NDArray[Any]]


def robustness(predict: Predict, data: Dataset, split: Split, seed: int = 0) -> Robustness:
    """Accuracy of each answer on its own yardstick: on `split` as it is, and under each of HARMS at five strengths.

    Every model gets the same images and the same noise.
    """
    part = data.split(split)
    clean = _accuracies(predict(part.pixels), part)
    harms: dict[AnswerName, dict[str, dict[str, float]]] = {name: {harm: {} for harm in HARMS} for name in clean}
    for name, (harm, strengths) in HARMS.items():
        for strength in strengths:
            rng = np.random.default_rng(seed)
            harmed = np.stack([_as_face(harm(face, strength, rng)) for face in part.pixels])
            for answer, (accuracy, _) in _accuracies(predict(harmed), part).items():
                harms[answer][name][str(strength)] = accuracy
    return Robustness(split, {name: Harms(images, accuracy, harms[name]) for name, (accuracy, images) in clean.items()})


def harms_by_answer(results: Mapping[str, Robustness]) -> dict[str, Harms]:
    """What a plot compares: each model, or each answer of a model with two."""
    return {
        f"{name}, {answer}" if len(result.answers) > 1 else name: harms
        for name, result in results.items()
        for answer, harms in result.answers.items()
    }


def as_markdown(result: Robustness) -> list[str]:
    """A table for each answer."""
    lines: list[str] = []
    for answer, harms in result.answers.items():
        against = "original labels" if answer == "labels" else "FER+'s consensus"
        lines += ["", f"Accuracy of `{answer}` on {harms.images} images ({against}), {harms.clean:.3f} unchanged:", ""]
        lines += harm_table(harms).as_markdown()
    return lines[1:]


def _accuracies(answers: Answers, part: Dataset) -> dict[AnswerName, tuple[float, int]]:
    """Accuracy of each answer on its own yardstick, and on how many images."""
    found: dict[AnswerName, tuple[float, int]] = {}
    for name, probabilities in answers.items():
        chosen, right = own_rows(name, part)
        found[name] = round(float((probabilities[chosen].argmax(axis=1) == right).mean()), 4), len(right)
    return found


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
