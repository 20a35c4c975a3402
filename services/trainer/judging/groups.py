"""`groups`: what a model does on photos of different groups of people, each figure with a bootstrap interval."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.trainer.errors import DataError
from services.trainer.judging.steadiness import CHANGES, Photos, picture_of, read_largest
from services.trainer.judging.tables import Table
from shared.analyzer import Analyzer
from shared.emotions import EMOTIONS
from shared.scores import Groups, GroupScores, Interval

EMOTION_COLUMN: Final = "emotion"
_CHANGES: Final = ("mirror", "shift 3 px")
_RESAMPLES: Final = 1000
_INTERVAL: Final = (2.5, 97.5)  # percent
_Values = npt.NDArray[np.float64]


def groups(
    analyzer: Analyzer, photos: Photos, table: Mapping[str, Mapping[str, str]], data: str, seed: int = 0
) -> Groups:
    """The figures of everyone and of each group: a value of one column of `table`, which has a row for each photo.

    A column `emotion` with our seven names is the truth, and gives accuracy. Photos that are not in the table are left
    out. Raises DataError when none remains, or when the table has no column to group by.
    """
    names, values = _measure(analyzer, photos, table)
    columns = [column for column in next(iter(table.values()), {}) if column != EMOTION_COLUMN]
    if not names or not columns:
        raise DataError(
            f"None of these photos is in the table, or it has no column to group by ({', '.join(columns)})."
        )
    members = {column: np.array([table[name][column] for name in names]) for column in columns}
    found: dict[str, dict[str, GroupScores]] = {
        column: {
            group: _scores({key: value[of == group] for key, value in values.items()}, seed)
            for group in sorted(set(of.tolist()), key=_by_number)
        }
        for column, of in members.items()
    }
    return Groups(analyzer.manifest.default_answer, analyzer.detector.name, data, _scores(values, seed), found)


def group_table(result: Groups) -> Table:
    """A row for everyone and for each group; shares of emotions are marked where their interval excludes everyone's."""
    labelled = result.everyone.accuracy is not None
    head = ("group", "photos", "no face", "confidence", *EMOTIONS, *(f"changed by {name}" for name in _CHANGES))
    rows = [_row("everyone", result.everyone, result.everyone, labelled)]
    for column, by_group in result.groups.items():
        rows += [_row(f"{column}: {name}", scores, result.everyone, labelled) for name, scores in by_group.items()]
    return Table((*head, "accuracy") if labelled else head, tuple(rows))


def as_markdown(result: Groups) -> list[str]:
    """The table with what it says."""
    return [
        f"The largest face of each photo of {result.data}, through the detector `{result.detector}`, answer "
        f"`{result.answer}`. In per cent, with 95 % intervals by bootstrap over photos ({_RESAMPLES} resamples): photos "
        "without a found face, mean top probability, how often each emotion is the answer (* where the interval excludes "
        "the share among everyone), and how often the answer changes. Without labels of emotion a difference between "
        "groups may lie in the photos as well as in the model.",
        "",
        *group_table(result).as_markdown(),
    ]


def _measure(
    analyzer: Analyzer, photos: Photos, table: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], dict[str, Any]]:
    """The names of the photos read, and for each what was measured; NaN where nothing could be."""
    names, rows = [], []
    for name, data in photos:
        picture = picture_of(data) if name in table else None
        if picture is None:
            continue
        names.append(name)
        before = read_largest(analyzer, picture)
        row = {"found": float(before is not None), "confidence": np.nan, "answer": np.nan, "right": np.nan}
        row |= dict.fromkeys(_CHANGES, np.nan)
        if before is not None:
            answer = int(before.argmax())
            row |= {"confidence": float(before.max()), "answer": float(answer)}
            for change in _CHANGES:
                after = read_largest(analyzer, CHANGES[change](picture))
                row[change] = np.nan if after is None else float(after.argmax() != answer)
            truth = table[name].get(EMOTION_COLUMN, "").lower()
            row["right"] = float(EMOTIONS[answer] == truth) if truth in EMOTIONS else np.nan
        rows.append(row)
    keys = rows[0] if rows else {}
    return names, {key: np.array([row[key] for row in rows]) for key in keys}


def _scores(values: Mapping[str, _Values], seed: int) -> GroupScores:
    found, rng = values["found"], np.random.default_rng(seed)
    # How often each photo is drawn in each resample.
    weights = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=_RESAMPLES)
    mean = _interval(weights)
    return GroupScores(
        photos=len(found),
        without_face=mean(1 - found),
        confidence=mean(values["confidence"]),
        shares={emotion: mean(_is(values["answer"], number)) for number, emotion in enumerate(EMOTIONS)},
        changed={change: mean(values[change]) for change in _CHANGES},
        accuracy=None if np.isnan(values["right"]).all() else mean(values["right"]),
    )


def _interval(weights: npt.NDArray[np.int64]) -> Callable[[_Values], Interval]:
    def interval(values: _Values) -> Interval:
        known = ~np.isnan(values)
        if not known.any():
            return Interval(0.0, 0.0, 0.0)
        mean, drawn = values[known].mean(), weights[:, known]
        low, high = np.percentile(drawn @ values[known] / np.maximum(drawn.sum(axis=1), 1), _INTERVAL)
        if mean in (0, 1):  # resampling what all photos share shows no spread: the exact bound of a share instead
            bound = (_INTERVAL[0] / 100) ** (1 / known.sum())
            low, high = (0, 1 - bound) if mean == 0 else (bound, 1)
        return Interval(*(round(float(value), 4) for value in (mean, low, high)))

    return interval


def _is(answers: _Values, number: int) -> _Values:
    return np.where(np.isnan(answers), np.nan, answers == number)


def _row(name: str, scores: GroupScores, everyone: GroupScores, labelled: bool) -> tuple[str, ...]:
    shares = []
    for emotion, share in scores.shares.items():
        whole = everyone.shares[emotion].value
        shares.append(_percent(share) + ("" if share.low <= whole <= share.high else " *"))
    cells = [name, str(scores.photos), _percent(scores.without_face), _percent(scores.confidence), *shares]
    cells += [_percent(changed) for changed in scores.changed.values()]
    if labelled:
        cells.append("" if scores.accuracy is None else _percent(scores.accuracy))
    return tuple(cells)


def _percent(interval: Interval) -> str:
    return f"{interval.value * 100:.1f} ({interval.low * 100:.1f}-{interval.high * 100:.1f})"


def _by_number(group: str) -> tuple[int, str]:
    """Ages by their first number ("3-9" before "10-19", "more than 70" last), names by the alphabet."""
    first = group.partition("-")[0]
    return (int(first), group) if first.isdigit() else (10_000, group)
