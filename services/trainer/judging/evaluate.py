"""`evaluate`: scores of a run or a model directory, split by split."""

import json
from collections.abc import Iterable
from pathlib import Path

from services.trainer.data.dataset import Dataset, Split
from services.trainer.training.metrics import Scores, score
from services.trainer.training.predictors import Predict
from shared.atomic import write_text
from shared.emotions import EMOTIONS


def evaluate(predict: Predict, data: Dataset, splits: Iterable[Split]) -> dict[Split, dict[str, Scores]]:
    """Scores for each split: all images, those not repeated in training, and those on which people agree.

    `consensus` counts FER+'s agreed emotion as the truth, the others FER2013's label.
    """
    results: dict[Split, dict[str, Scores]] = {}
    for split in splits:
        part = data.split(split)
        probabilities = predict(part.pixels)
        fresh, agreed = ~part.repeated, part.consensus >= 0
        results[split] = {
            "all": score(probabilities, part.labels),
            "without_repeated": score(probabilities[fresh], part.labels[fresh]),
        }
        if agreed.any():
            results[split]["consensus"] = score(probabilities[agreed], part.consensus[agreed])
            both = agreed & fresh
            results[split]["consensus_without_repeated"] = score(probabilities[both], part.consensus[both])
    return results


def write_evaluation(results: dict[Split, dict[str, Scores]], path: Path) -> None:
    """Keep the scores as JSON."""
    write_text(path, json.dumps(results, indent=1) + "\n")


def as_table(results: dict[Split, dict[str, Scores]]) -> str:
    """The scores for a terminal: a line each, then precision, recall and F1 per class and the confusion matrix."""
    lines = [
        f"{'split':12}{'images of':28}{'images':>7}{'accuracy':>10}{'macro-F1':>10}{'NLL':>8}{'Brier':>8}{'ECE':>8}"
    ]
    for split, groups in results.items():
        for group, s in groups.items():
            lines.append(
                f"{split:12}{group:28}{s['images']:7d}{s['accuracy']:10.4f}{s['macro_f1']:10.4f}"
                f"{s['nll']:8.4f}{s['brier']:8.4f}{s['ece']:8.4f}"
            )
    for split, groups in results.items():
        s = groups["all"]
        lines += ["", f"{split}: per class, and the confusion matrix (rows: truth)"]
        lines.append(
            f"{'':10}{'precision':>10}{'recall':>8}{'F1':>8}{'images':>8}   " + "".join(f"{e:>9}" for e in EMOTIONS)
        )
        for emotion, row in zip(EMOTIONS, s["confusion"], strict=True):
            c = s["per_class"][emotion]
            counts = "".join(f"{count:9d}" for count in row)
            lines.append(
                f"{emotion:10}{c['precision']:10.3f}{c['recall']:8.3f}{c['f1']:8.3f}{c['images']:8d}   {counts}"
            )
    return "\n".join(lines)
