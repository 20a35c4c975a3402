"""`compare`: runs, models and baselines side by side."""

import json
from pathlib import Path
from typing import Any, Final

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
    for path in paths:
        rows |= _results(path)
    head = [" ".join((split, group.replace("_", " "), name.replace("_", "-"))) for split, group, name in _COLUMNS]
    lines = [f"| | {' | '.join(head)} |", "|---|" + "--:|" * len(_COLUMNS)]
    for name, results in rows.items():
        cells = [_cell(results, *column) for column in _COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _results(path: Path) -> dict[str, dict[str, Any]]:
    if (path / MANIFEST_FILE).exists():
        return {path.name: load_manifest(path).metrics}
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} was not evaluated yet: `python -m services.trainer evaluate {path}`.") from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}.") from error
    if "validation" in content or "test" in content:
        return {path.name: content}
    return dict(content)  # of baselines: a name, then its scores


def _cell(results: dict[str, Any], split: str, group: str, name: str) -> str:
    value = results.get(split, {}).get(group, {}).get(name)
    return "" if value is None else f"{value:.4f}"
