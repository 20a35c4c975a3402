"""`compare`: runs, models and baselines side by side."""

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter

from services.trainer.data.dataset import SPLITS, Dataset
from services.trainer.errors import DataError
from services.trainer.judging.evaluate import called
from services.trainer.judging.tables import FIGURES, Table, figure
from shared.atomic import write_text
from shared.manifest import MANIFEST_FILE, load_manifest
from shared.scores import AnswerScores, Metrics, Yardstick, upgraded_metrics

_COLUMNS: Final[tuple[tuple[str, Yardstick, str], ...]] = (
    ("validation", "all", "accuracy"),
    ("test", "all", "accuracy"),
    ("test", "all", "macro_f1"),
    ("test", "without_repeated", "accuracy"),
    ("test", "consensus", "accuracy"),
    ("test", "consensus", "mean_recall"),
    ("test", "all", "ece"),
)
_Scored: TypeAlias = tuple[str, Metrics]  # what names the data, and the scores on it
_NAMED_METRICS: Final = TypeAdapter(dict[str, Metrics])


def compare(paths: list[Path]) -> Table:
    """A row for each answer of each run, model directory, or JSON of `evaluate` or `baselines`.

    Where their scores are of several data sets, a column names each row's: such rows are not comparable.

    Raises DataError for one that has not been evaluated.
    """
    results: dict[str, _Scored] = {}
    for name, path in distinct_names(paths).items():
        results |= _results(name, path)
    several = len({data for data, _ in results.values()}) > 1
    rows = [
        (title, *([data] if several else []), *cells)
        for name, (data, metrics) in results.items()
        for title, *cells in _rows(name, metrics)
    ]
    head = (" ".join((split, yardstick.replace("_", " "), FIGURES[name])) for split, yardstick, name in _COLUMNS)
    return Table(("", *(["data"] if several else []), *head), tuple(rows), words=1 + several)


def distinct_names(paths: list[Path]) -> dict[str, Path]:
    """Each path by its last parts, as many as are needed to tell it from the others."""
    length = 1
    while len({path.resolve().parts[-length:] for path in paths}) < len({path.resolve() for path in paths}):
        length += 1
    return {"/".join(path.resolve().parts[-length:]): path for path in paths}


def write_named(results: dict[str, Metrics], path: Path, data: Dataset | None = None) -> None:
    """Keep the scores of several things, each by its name, as JSON, and what names the data that they are of."""
    named = {"data": called(data.name, data.sha256)} if data else {}
    write_text(path, json.dumps(named | _NAMED_METRICS.dump_python(results, mode="json"), indent=1) + "\n")


def _rows(name: str, metrics: Metrics) -> list[tuple[str, ...]]:
    answers = list(dict.fromkeys(answer for by_answer in metrics.values() for answer in by_answer))
    return [
        (
            f"{name}, {answer}" if len(answers) > 1 else name,
            *(_cell(metrics.get(split, {}).get(answer, {}), yardstick, field) for split, yardstick, field in _COLUMNS),
        )
        for answer in answers
    ]


def _cell(scores: AnswerScores, yardstick: Yardstick, name: str) -> str:
    return figure(scores[yardstick], name) if yardstick in scores else ""


def _results(name: str, path: Path) -> dict[str, _Scored]:
    if (path / MANIFEST_FILE).exists():
        manifest = load_manifest(path)
        return {name: (called(manifest.training.data, manifest.training.data_sha256), manifest.metrics)}
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        data = str(content.pop("data", "unknown"))
        named = {name: content} if set(content) <= set(SPLITS) else content  # of baselines: a name, then its scores
        scores = _NAMED_METRICS.validate_python({key: upgraded_metrics(metrics) for key, metrics in named.items()})
        return {key: (data, metrics) for key, metrics in scores.items()}
    except OSError as error:
        raise DataError(f"{path} has not been evaluated yet: `python -m services.trainer evaluate {path}`.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} holds no scores of `evaluate` or `baselines`: {error}.") from error
