"""`report`: one self-contained page that shows how good a model is, and where it is wrong."""

import base64
import html
import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from matplotlib.figure import Figure

from services.trainer import plots
from services.trainer.data.dataset import SPLITS, Dataset, Split
from services.trainer.judging.calibration import calibrated, fit_calibration
from services.trainer.judging.evaluate import called, evaluate, own_rows, own_scores, write_evaluation
from services.trainer.judging.explain import answering, grad_cam, occlusion
from services.trainer.judging.robustness import harms_by_answer, robustness
from services.trainer.judging.tables import Table, class_table, harm_table, score_table
from services.trainer.training.config import TrainConfig
from services.trainer.training.metrics import ECE_BINS, reliability_bins, score
from services.trainer.training.predictors import Answers, Predict, one_answer, open_predictor
from services.trainer.training.workdir import Workdir, best_epoch
from shared.answers import AnswerName, default_answer
from shared.atomic import write_text
from shared.choices import Probabilities
from shared.emotions import EMOTIONS
from shared.manifest import MANIFEST_FILE, load_manifest
from shared.scores import Metrics, Robustness

_SHOWN: Final = 18
_EXPLAINED: Final = 7
_STYLE: Final = """
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #1a1d21; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #d5dae0; text-align: right; }
.word { text-align: left; }
.wide { overflow-x: auto; }
img { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True, slots=True)
class _Page:
    """The page as it grows, and the folder that also holds its figures as PNG."""

    folder: Path
    parts: list[str]

    def text(self, tag: str, content: str) -> None:
        self.parts.append(f"<{tag}>{html.escape(content)}</{tag}>")

    def table(self, table: Table) -> None:
        def row(cells: tuple[str, ...], tag: str) -> str:
            kinds = [' class="word"'] * table.words + [""] * (len(cells) - table.words)
            filled = zip(kinds, cells, strict=True)
            return "<tr>" + "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in filled) + "</tr>"

        rows = [row(table.head, "th"), *(row(cells, "td") for cells in table.rows)]
        self.parts.extend(['<div class="wide"><table>', *rows, "</table></div>"])  # on a phone the table scrolls alone

    def figure(self, name: str, figure: Figure, description: str) -> None:
        plots.save(figure, self.folder / f"{name}.png")
        data = base64.b64encode((self.folder / f"{name}.png").read_bytes()).decode()
        self.parts.append(f'<img alt="{html.escape(description)}" src="data:image/png;base64,{data}">')


def report(target: Path, data: Dataset, out: Path, split: Split = "test") -> Path:
    """Write `out`/report.html and its figures for a run or a model directory; the page's path.

    The page shows faces of the data and is as private as they are. Raises what opening the model raises.
    """
    predict = open_predictor(target)
    part, validation = data.split(split), data.split("validation")
    answers, fitted_on = predict(part.pixels), predict(validation.pixels)
    page = _Page(out, [])
    page.text("h1", f"{target.name} on {split}")
    page.text("p", _about(target, data))
    results = evaluate(predict, data, SPLITS[1:])
    page.text("h2", "Scores")
    page.table(score_table(results))
    for name in answers:
        _confusion(page, results, split, name)
    _training(page, target)
    for name in answers:
        _calibration(page, name, (fitted_on[name], validation), (answers[name], part))
    shown = default_answer(answers)
    if part.has_votes:
        _agreement(page, answers, part)
    _samples(page, answers[shown], shown, part)
    _explanations(page, predict, target, shown, part)
    _robustness(page, robustness(predict, data, split), target.name)
    _classes(page, data)
    write_text(out / "report.html", _document(target.name, page.parts))
    write_evaluation(results, out / "evaluation.json", data)
    return out / "report.html"


def _about(target: Path, data: Dataset) -> str:
    """When the report was written, of which weights and of which data."""
    if (target / MANIFEST_FILE).exists():
        manifest = load_manifest(target)
        weights = f"version {manifest.version}, weights of epoch {manifest.training.best_epoch}"
    else:
        home = Workdir(target)
        history, config = home.read_history(), TrainConfig.model_validate(home.read_run()["config"])
        weights = f"weights of epoch {best_epoch(history, config)['epoch']} of {len(history)}"
    return f"{date.today().isoformat()}; {weights}; data {called(data.name, data.sha256)}."


def _confusion(page: _Page, results: Metrics, split: Split, answer: AnswerName) -> None:
    scores = own_scores(answer, results[split][answer])
    page.text("h2", f"Per class, {split}, {answer}")
    page.table(class_table(scores))
    page.figure(
        f"confusion-{answer}",
        plots.confusion(scores.confusion, f"Confusion, {split}, {answer}"),
        "Confusion matrix, as counts and in percent of each true class",
    )


def _training(page: _Page, target: Path) -> None:
    history = Workdir(target).read_history()
    if history:
        page.text("h2", "Training")
        page.figure("curves", plots.curves(history), "Loss and accuracy of training and validation by epoch")


_Judged: TypeAlias = tuple[Probabilities, Dataset]  # what a model says of the images of a split


def _calibration(page: _Page, answer: AnswerName, fitted_on: _Judged, judged: _Judged) -> None:
    page.text("h2", f"Calibration, {answer}")
    rows, truth = own_rows(answer, fitted_on[1])
    fitted = fit_calibration(fitted_on[0][rows], truth)
    rows, truth = own_rows(answer, judged[1])
    before = judged[0][rows]
    after = calibrated(before, fitted)
    scores = {"before": score(before, truth), f"after, temperature {fitted.temperature}": score(after, truth)}
    page.table(
        Table(
            ("", "ECE", "NLL", "Brier"),
            tuple((name, f"{s.ece:.4f}", f"{s.nll:.4f}", f"{s.brier:.4f}") for name, s in scores.items()),
        )
    )
    page.text(
        "p",
        "A temperature and a shift for each emotion, fitted on the validation split; an exported model has its own inside.",
    )
    page.figure(
        f"reliability-{answer}",
        plots.reliability(reliability_bins(before, truth), reliability_bins(after, truth), ECE_BINS),
        "Reliability before and after temperature scaling",
    )


def _agreement(page: _Page, answers: Answers, part: Dataset) -> None:
    page.text("h2", "Agreement with FER+'s raters")
    votes = part.votes_for_emotions
    voted = votes.sum(axis=1) > 0
    share = votes[voted] / votes[voted].sum(axis=1, keepdims=True)
    rows = []
    for name, probabilities in answers.items():
        chosen = probabilities[voted].argmax(axis=1)
        of_votes, most = share[np.arange(len(share)), chosen].mean(), (chosen == share.argmax(axis=1)).mean()
        rows.append((name, str(voted.sum()), f"{of_votes:.3f}", f"{most:.3f}"))
    head = ("answer", "images with votes", "share of votes for the predicted emotion", "predicted what most voted for")
    page.table(Table(head, tuple(rows)))


def _samples(page: _Page, probabilities: Probabilities, answer: AnswerName, part: Dataset) -> None:
    page.text("h2", f"Faces, {answer}")
    judged, truth = own_rows(answer, part)
    probabilities, faces = probabilities[judged], part.pixels[judged]
    right = probabilities.argmax(axis=1) == truth
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")
    mistakes = surest[~right[surest]][:_SHOWN]
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(right))[:_SHOWN]
    for name, rows, title in (
        ("mistakes", mistakes, "The most confident mistakes (or wrong labels)"),
        ("right", chosen, "Correct answers, drawn at random"),
    ):
        figure = plots.samples(faces[rows], truth[rows], probabilities[rows], title)
        page.figure(name, figure, title)


def _explanations(page: _Page, predict: Predict, target: Path, answer: AnswerName, part: Dataset) -> None:
    page.text("h2", f"Where it looks, {answer}")
    read = one_answer(predict, answer)
    rows = [int(np.flatnonzero(part.labels == index)[0]) for index in range(_EXPLAINED) if (part.labels == index).any()]
    faces = part.pixels[rows]
    maps = {"occlusion": np.stack([occlusion(read, face) for face in faces])}
    if (target / "run.json").exists():
        maps = {"Grad-CAM": grad_cam(answering(Workdir(target).load_best(), answer), faces), **maps}
    answers = read(faces).argmax(axis=1)
    captions = [
        f"{EMOTIONS[part.labels[row]]}\nread {EMOTIONS[answer]}" for row, answer in zip(rows, answers, strict=True)
    ]
    page.figure("explanations", plots.explanations(faces, maps, captions), "Faces with maps of what decided the answer")


def _robustness(page: _Page, result: Robustness, name: str) -> None:
    page.text("h2", "Robustness")
    write_text(page.folder / "robustness.json", json.dumps(asdict(result), indent=1) + "\n")
    for answer, harms in result.answers.items():
        page.text(
            "p",
            f"Accuracy of {answer} on {harms.images} images under five strengths of each kind of degradation; {harms.clean:.3f} without.",
        )
        page.table(harm_table(harms))
    figure = plots.robustness_curves(harms_by_answer({name: result}))
    page.figure("robustness", figure, "Accuracy against the strength of each kind of degradation")


def _classes(page: _Page, data: Dataset) -> None:
    page.text("h2", "Data")
    images = {
        split: {emotion: int((data.split(split).labels == index).sum()) for index, emotion in enumerate(EMOTIONS)}
        for split in SPLITS
    }
    page.figure("classes", plots.class_distribution(images), "Images per class and split")


def _document(title: str, parts: list[str]) -> str:
    head = f"""<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style>"""
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
