"""`compare`: runs, models and baselines side by side."""

import json
from pathlib import Path
from typing import Any, Final

from services.trainer.data.dataset import SPLITS
from services.trainer.errors import DataError
from shared.manifest import MANIFEST_FILE, load_manifest

_COLUMNS: Final = (
    ("validation", "all", "accuracy"),
    ("test", "all", "accuracy"),
    ("test", "all", "macro_f1"),
    ("test", "without_repeated", "accuracy"),
    ("test", "consensus", "accuracy"),
    ("test", "all", "ece"),
)


def compare(paths: list[Path]) -> str:
    """A Markdown table: a row for each run, model directory, or JSON of `evaluate` or `baselines`.

    Raises DataError for one that was not evaluated.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, path in distinct_names(paths).items():
        rows |= _results(name, path)
    head = [" ".join((split, group.replace("_", " "), name.replace("_", "-"))) for split, group, name in _COLUMNS]
    lines = [f"| | {' | '.join(head)} |", "|---|" + "--:|" * len(_COLUMNS)]
    for name, results in rows.items():
        cells = [_cell(results, *column) for column in _COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def distinct_names(paths: list[Path]) -> dict[str, Path]:
    """Each path by its last parts, as many as tell it from the others."""
    length = 1
    while len({path.resolve().parts[-length:] for path in paths}) < len({path.resolve() for path in paths}):
        length += 1
    return {"/".join(path.resolve().parts[-length:]): path for path in paths}


def _results(name: str, path: Path) -> dict[str, dict[str, Any]]:
    if (path / MANIFEST_FILE).exists():
        return {name: load_manifest(path).metrics}
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} was not evaluated yet: `python -m services.trainer evaluate {path}`.") from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}.") from error
    if set(content) <= set(SPLITS):
        return {name: content}
    return dict(content)  # of baselines: a name, then its scores


def _cell(results: dict[str, Any], split: str, group: str, name: str) -> str:
    value = results.get(split, {}).get(group, {}).get(name)
    return "" if value is None else f"{value:.4f}"
