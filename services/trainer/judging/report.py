"""`report`: one self-contained page that shows how good a model is, and where it errs."""

import base64
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from services.trainer import plots
from services.trainer.data.dataset import SPLITS, Dataset, Split
from services.trainer.judging.calibration import apply_temperature, fit_temperature
from services.trainer.judging.evaluate import evaluate
from services.trainer.judging.explain import grad_cam, occlusion
from services.trainer.judging.robustness import as_markdown, robustness
from services.trainer.training.metrics import Scores, score
from services.trainer.training.predictors import Predict, open_predictor
from services.trainer.training.workdir import Workdir
from shared.atomic import write_text
from shared.emotions import EMOTIONS
from shared.pipeline.classify import Probabilities

_SHOWN: Final = 18
_EXPLAINED: Final = 7
_STYLE: Final = """
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #1a1d21; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #d5dae0; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
"""


@dataclass(frozen=True, slots=True)
class _Page:
    """The page as it grows, and the folder in which its figures are kept as PNG too."""

    folder: Path
    parts: list[str]

    def text(self, tag: str, content: str) -> None:
        self.parts.append(f"<{tag}>{html.escape(content)}</{tag}>")

    def table(self, rows: list[list[str]]) -> None:
        head, *body = [[html.escape(cell) for cell in row] for row in rows]
        self.parts.append("<table><tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>")
        self.parts.extend("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)
        self.parts.append("</table>")

    def figure(self, name: str, figure: Figure, description: str) -> None:
        plots.save(figure, self.folder / f"{name}.png")
        data = base64.b64encode((self.folder / f"{name}.png").read_bytes()).decode()
        self.parts.append(f'<img alt="{html.escape(description)}" src="data:image/png;base64,{data}">')


def report(target: Path, data: Dataset, out: Path, split: Split = "test") -> Path:
    """Write `out`/report.html and its figures for a run or a model directory; the page's path.

    The sample faces are those of the data: the page is as private as they are. Raises what opening the model raises.
    """
    predict = open_predictor(target)
    part, validation = data.split(split), data.split("validation")
    probabilities = predict(part.pixels)
    page = _Page(out, [])
    page.text("h1", f"{target.name} on {split}")
    results = evaluate(predict, data, SPLITS[1:])
    _scores(page, results)
    _confusion(page, results[split]["all"], split)
    _training(page, target)
    _calibration(page, predict(validation.pixels), validation, probabilities, part)
    if part.has_votes:
        _agreement(page, probabilities, part)
    _samples(page, probabilities, part)
    _explanations(page, predict, target, part)
    _robustness(page, predict, part, target.name)
    _classes(page, data)
    write_text(out / "report.html", _document(target.name, page.parts))
    write_text(out / "evaluation.json", json.dumps(results, indent=1) + "\n")
    return out / "report.html"


def _scores(page: _Page, results: dict[Split, dict[str, Scores]]) -> None:
    page.text("h2", "Scores")
    rows = [["split", "images of it", "images", "accuracy", "macro-F1", "NLL", "Brier", "ECE"]]
    for split, groups in results.items():
        for group, s in groups.items():
            figures = [f"{s[name]:.4f}" for name in ("accuracy", "macro_f1", "nll", "brier", "ece")]
            rows.append([split, group.replace("_", " "), str(s["images"]), *figures])
    page.table(rows)


def _confusion(page: _Page, scores: Scores, split: str) -> None:
    page.text("h2", f"Per class, {split}")
    rows = [["emotion", "precision", "recall", "F1", "images"]]
    for emotion, s in scores["per_class"].items():
        rows.append([emotion, f"{s['precision']:.3f}", f"{s['recall']:.3f}", f"{s['f1']:.3f}", str(s["images"])])
    page.table(rows)
    page.figure(
        "confusion",
        plots.confusion(scores["confusion"], f"Confusion, {split}"),
        "Confusion matrix, as counts and in percent of each true class",
    )


def _training(page: _Page, target: Path) -> None:
    history = Workdir(target).read_history()
    if history:
        page.text("h2", "Training")
        page.figure("curves", plots.curves(history), "Loss and accuracy of training and validation by epoch")


def _calibration(
    page: _Page, fitted_on: Probabilities, validation: Dataset, probabilities: Probabilities, part: Dataset
) -> None:
    page.text("h2", "Calibration")
    temperature = fit_temperature(fitted_on, validation.labels)
    after = apply_temperature(probabilities, temperature)
    rows = [["", "ECE", "NLL", "Brier"]]
    for name, values in (("before", probabilities), (f"after, temperature {temperature}", after)):
        s = score(values, part.labels)
        rows.append([name, *(f"{s[key]:.4f}" for key in ("ece", "nll", "brier"))])
    page.table(rows)
    page.text("p", "The temperature is fitted on the validation split; an exported model already has its own inside.")
    page.figure(
        "reliability",
        plots.reliability(probabilities, after, part.labels),
        "Reliability before and after temperature scaling",
    )


def _agreement(page: _Page, probabilities: Probabilities, part: Dataset) -> None:
    page.text("h2", "Agreement with FER+'s raters")
    votes = part.votes_for_emotions
    voted = votes.sum(axis=1) > 0
    share = votes[voted] / votes[voted].sum(axis=1, keepdims=True)
    chosen = probabilities[voted].argmax(axis=1)
    agreed = part.consensus >= 0
    page.table(
        [
            ["", "images", "share"],
            ["share of votes for the predicted emotion", str(voted.sum()), f"{share[np.arange(len(share)), chosen].mean():.3f}"],
            ["predicted what most voted for", str(voted.sum()), f"{(chosen == share.argmax(axis=1)).mean():.3f}"],
            ["predicted what at least six of ten agree on", str(agreed.sum()), f"{(probabilities.argmax(axis=1) == part.consensus)[agreed].mean():.3f}"],
        ]
    )  # fmt: skip


def _samples(page: _Page, probabilities: Probabilities, part: Dataset) -> None:
    page.text("h2", "Faces")
    right = probabilities.argmax(axis=1) == part.labels
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")
    mistakes = surest[~right[surest]][:_SHOWN]
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(right))[:_SHOWN]
    for name, rows, title in (
        ("mistakes", mistakes, "The most confident mistakes (or mistaken labels)"),
        ("right", chosen, "Right answers, drawn at random"),
    ):
        figure = plots.samples(part.pixels[rows], part.labels[rows], probabilities[rows], title)
        page.figure(name, figure, title)


def _explanations(page: _Page, predict: Predict, target: Path, part: Dataset) -> None:
    page.text("h2", "Where it looks")
    rows = [int(np.flatnonzero(part.labels == index)[0]) for index in range(_EXPLAINED) if (part.labels == index).any()]
    faces = part.pixels[rows]
    maps = {"occlusion": np.stack([occlusion(predict, face) for face in faces])}
    if (target / "run.json").exists():
        maps = {"Grad-CAM": grad_cam(Workdir(target).load_best(), faces), **maps}
    answers = predict(faces).argmax(axis=1)
    captions = [
        f"{EMOTIONS[part.labels[row]]}\nread {EMOTIONS[answer]}" for row, answer in zip(rows, answers, strict=True)
    ]
    page.figure("explanations", plots.explanations(faces, maps, captions), "Faces with maps of what decided the answer")


def _robustness(page: _Page, predict: Predict, part: Dataset, name: str) -> None:
    page.text("h2", "Robustness")
    result = robustness(predict, part)
    write_text(page.folder / "robustness.json", json.dumps(result, indent=1) + "\n")
    lines = [line.strip("| ").split(" | ") for line in as_markdown(result) if line.startswith("|") and "--" not in line]
    page.text(
        "p", f"Accuracy on {result['images']} images under five strengths of each harm; {result['clean']:.3f} without."
    )
    page.table(lines)
    page.figure("robustness", plots.robustness_curves({name: result}), "Accuracy against the strength of each harm")


def _classes(page: _Page, data: Dataset) -> None:
    page.text("h2", "Data")
    images = {
        split: {emotion: int((data.split(split).labels == index).sum()) for index, emotion in enumerate(EMOTIONS)}
        for split in SPLITS
    }
    page.figure("classes", plots.class_distribution(images), "Images per class and split")


def _document(title: str, parts: list[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
