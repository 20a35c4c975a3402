"""`prepare`: turns a source of labelled faces into one checked data file, a report and a plot."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from services.trainer import plots
from services.trainer.data.dataset import FACE_SIZE_PX, FER2013, SPLITS, VOTE_COLUMNS, Dataset
from services.trainer.data.sources import FaceFinder, Progress, hold_out_validation, read_source, read_votes
from services.trainer.errors import DataError
from shared.atomic import write_text
from shared.emotions import EMOTIONS
from shared.pictures import GreyImage

EMPTY_BELOW: Final = 1.0  # standard deviation in grey levels: below it an image is blank


def prepare(
    source: Path,
    votes: Path | None,
    out: Path,
    progress: Progress = iter,
    finder: FaceFinder | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Read, check and clean `source`; write `out` (.npz), `.report.json` and `.classes.png` beside it.

    With a `finder`, the largest face of each photo in class folders is cut out first. Missing and corrupt images are
    left out everywhere. Blank images, and exact copies of validation or test images, are left out of training only, so
    that scores stay comparable with published ones. `name` is what model cards call the data; without it a CSV is
    called FER2013, the only data of this form, and folders go by their own name.
    Returns the report. Raises DataError when the source is unusable.
    """
    if finder and not source.is_dir():
        raise DataError("The images of a CSV are already faces; --detect is for folders of photos.")
    if votes and source.is_dir():
        raise DataError("FER+'s votes belong to the rows of fer2013.csv, which folders do not have. Leave --votes out.")
    frame, faces = read_source(source, progress, finder)
    vote_table = read_votes(votes, frame) if votes else np.zeros((len(frame), len(VOTE_COLUMNS)), np.uint8)
    frame = hold_out_validation(frame)
    frame = find_problems(frame, faces)
    dataset = replace(_assemble(frame, faces, vote_table), name=name or _usual_name(source))
    report = _report(source, frame, dataset)
    dataset.save(out)
    write_text(out.with_suffix(".report.json"), json.dumps(report, indent=2) + "\n")
    plots.save(plots.class_distribution(report["images"]), out.with_suffix(".classes.png"))
    return report


def left_out_by_problem(report: dict[str, Any]) -> dict[str, list[str]]:
    """What was left out of a report's data, by the reason in words."""
    sources: dict[str, list[str]] = {}
    for entry in report["left_out"]:
        kind, _, words = entry["problem"].partition(": ")
        sources.setdefault(kind if kind == "corrupt" else words, []).append(entry["source"])
    return sources


def _usual_name(source: Path) -> str:
    folder = source.resolve().name
    return folder if source.is_dir() and folder.upper() != FER2013 else FER2013


def find_problems(frame: pd.DataFrame, faces: list[GreyImage | None]) -> pd.DataFrame:
    """The frame with `problem` filled for empty and repeated training images, and a column `repeated`.

    `repeated` is true for validation and test images with a pixel-for-pixel copy in training.
    """
    # Digests, not the bytes themselves: pandas drops the zero pixels at the end of a bytes object.
    frame = frame.assign(digest=["" if face is None else hashlib.sha256(face.tobytes()).hexdigest() for face in faces])
    readable, train = frame["problem"] == "", frame["split"] == "train"
    trained = set(frame.loc[readable & train, "digest"])
    held_out = set(frame.loc[readable & ~train, "digest"])
    empty = np.array([face is not None and face.std() < EMPTY_BELOW for face in faces])
    frame["repeated"] = readable & ~train & frame["digest"].isin(trained)
    frame.loc[readable & train & frame["digest"].isin(held_out), "problem"] = (
        "repeat: the same picture is in validation or test"
    )
    frame.loc[readable & train & empty, "problem"] = "empty: a blank image"
    return frame.drop(columns="digest")


def _assemble(frame: pd.DataFrame, faces: list[GreyImage | None], votes: npt.NDArray[np.uint8]) -> Dataset:
    kept = frame[frame["problem"] == ""]
    for split in SPLITS:
        absent = set(EMOTIONS) - set(kept.loc[kept["split"] == split, "label"])
        if absent:
            raise DataError(
                f"No readable {split} image shows {', '.join(sorted(absent))}; each split needs all of {', '.join(EMOTIONS)}."
            )
    pixels = [face for face in (faces[row] for row in kept.index) if face is not None]
    return Dataset(
        pixels=np.stack(pixels).reshape(-1, FACE_SIZE_PX, FACE_SIZE_PX),
        labels=kept["label"].map(EMOTIONS.index).to_numpy(np.int8),
        splits=kept["split"].map(SPLITS.index).to_numpy(np.int8),
        repeated=kept["repeated"].to_numpy(np.bool_),
        votes=votes[kept.index],
    )


def _report(source: Path, frame: pd.DataFrame, dataset: Dataset) -> dict[str, Any]:
    left_out = frame[frame["problem"] != ""]
    return {
        "name": dataset.name,
        "source": source.name,
        "sha256": dataset.sha256,
        "read": int((~frame["problem"].str.startswith("ignored")).sum()),
        "kept": len(dataset),
        "images": {
            split: {
                emotion: int((dataset.split(split).labels == index).sum()) for index, emotion in enumerate(EMOTIONS)
            }
            for split in SPLITS
        },
        "repeated_in_train": {split: int(dataset.split(split).repeated.sum()) for split in SPLITS[1:]},
        "votes": dataset.has_votes,
        "left_out_by_reason": left_out["problem"].str.split(":").str[0].value_counts().to_dict(),
        "left_out": left_out[["source", "label", "split", "problem"]].to_dict("records"),
    }
