"""The tables that people read, in one form for the terminal, Markdown and HTML."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from shared.emotions import EMOTIONS
from shared.scores import Harms, Metrics, Scores, Yardstick

YARDSTICKS: Final[dict[Yardstick, str]] = {
    "all": "all images, original labels",
    "without_repeated": "without images repeated in training",
    "consensus": "consensus of at least 6 of 10 FER+ raters",
    "consensus_without_repeated": "consensus, without repeated images",
}
# Field of Scores, and its heading.
FIGURES: Final = {
    "images": "images",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "mean_recall": "mean recall",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text: a heading and rows. The first `words` columns hold words, the others numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1

    def as_text(self) -> str:
        """For a terminal: columns as wide as their longest cell."""
        cells = (self.head, *self.rows)
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.head))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column < self.words else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        )

    def as_markdown(self) -> list[str]:
        """For a card: lines of a Markdown table."""
        rule = ["---"] * self.words + ["--:"] * (len(self.head) - self.words)
        lines = [f"| {' | '.join(row)} |" for row in (self.head, *self.rows)]
        return [lines[0], f"|{'|'.join(rule)}|", *lines[1:]]


def figure(scores: Scores, name: str) -> str:
    """One figure of FIGURES as it stands in every table."""
    value = getattr(scores, name)
    return str(value) if name == "images" else f"{value:.4f}"


def score_table(metrics: Metrics, called: Callable[[str], str] = str) -> Table:
    """A row for each split, answer and yardstick; `called` gives a split's name. One answer needs no column."""
    several = any(len(answers) > 1 for answers in metrics.values())
    rows = [
        (called(split), *([answer] if several else []), YARDSTICKS[yardstick], *(figure(s, name) for name in FIGURES))
        for split, answers in metrics.items()
        for answer, yardsticks in answers.items()
        for yardstick, s in yardsticks.items()
    ]
    words = ("split", *(["answer"] if several else []), "images of it")
    return Table((*words, *FIGURES.values()), tuple(rows), len(words))


def class_table(scores: Scores) -> Table:
    """Precision, recall and F1 of each emotion."""
    rows = [
        (emotion, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", str(s.images))
        for emotion, s in scores.per_class.items()
    ]
    return Table(("emotion", "precision", "recall", "F1", "images"), tuple(rows))


def confusion_table(scores: Scores) -> Table:
    """How many images of each emotion (rows) were read as which (columns)."""
    rows = [(emotion, *map(str, row)) for emotion, row in zip(EMOTIONS, scores.confusion, strict=True)]
    return Table(("truth", *EMOTIONS), tuple(rows))


def harm_table(result: Harms) -> Table:
    """A row for each kind of degradation, from the weakest to the strongest; strengths in brackets."""
    rows = [
        (name, *(f"{accuracy:.3f} ({strength})" for strength, accuracy in accuracies.items()))
        for name, accuracies in result.harms.items()
    ]
    return Table(("harm", *map(str, range(1, 1 + _most(result.harms.values())))), tuple(rows))


def _most(rows: Iterable[dict[str, float]]) -> int:
    return max(map(len, rows), default=0)
