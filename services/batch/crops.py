"""Faces as the network saw them, in the form that the trainer's `prepare` reads: FER2013's CSV and FER+'s votes."""

import gzip
import hashlib
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from services.batch.plan import Shard
from services.batch.storage import Output
from shared.analysis import Face
from shared.emotions import EMOTIONS

CROPS: Final = "crops"
FACES_FILE: Final = "faces.csv.gz"
VOTES_FILE: Final = "votes.csv.gz"
_SIDE_PX: Final = 48  # of FER2013's faces
# FER2013's numbers of our classes, and FER+'s columns of votes.
_NUMBERS: Final = {"angry": 0, "disgust": 1, "fear": 2, "happy": 3, "sad": 4, "surprise": 5, "neutral": 6}
_VOTES: Final = {
    "neutral": "neutral", "happiness": "happy", "surprise": "surprise", "sadness": "sad", "anger": "angry",
    "disgust": "disgust", "fear": "fear", "contempt": "", "unknown": "", "NF": "",
}  # fmt: skip
_RATERS: Final = 10
_HEADERS: Final = {FACES_FILE: "emotion,pixels,Usage\n", VOTES_FILE: f"Usage,Image name,{','.join(_VOTES)}\n"}


@dataclass(slots=True)
class CropWriter:
    """Writes the faces of a shard to a pair of local files."""

    faces: gzip.GzipFile
    votes: gzip.GzipFile

    def add(self, source: str, faces: Sequence[Face]) -> None:
        """Append `faces`, as they were cut, with what was read in them. Raises OSError."""
        usage = _usage(source)
        for face in faces:
            crop, shares = face.crop, face.probabilities
            assert crop is not None, "the analyzer cuts every face"
            if crop.shape[0] != _SIDE_PX:
                crop = np.asarray(cv2.resize(crop, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
            pixels = " ".join(map(str, crop.ravel().tolist()))
            self.faces.write(f"{_NUMBERS[face.emotion]},{pixels},{usage}\n".encode())
            votes = dict(zip(EMOTIONS, _apportioned(shares), strict=True))
            row = ",".join(str(votes.get(emotion, 0)) for emotion in _VOTES.values())
            self.votes.write(f"{usage},,{row}\n".encode())


def _usage(source: str) -> str:
    """Which split a file's faces go to, by its name: a tenth each to the tests, and one film never to two."""
    bucket = hashlib.blake2b(source.encode(), digest_size=2).digest()[0] % 10
    return {0: "PublicTest", 1: "PrivateTest"}.get(bucket, "Training")


def _apportioned(shares: Sequence[float]) -> list[int]:
    """Ten votes in the proportion of `shares`, by largest remainders."""
    exact = np.asarray(shares) * _RATERS
    votes = np.floor(exact).astype(int)
    for index in np.argsort(votes - exact)[: _RATERS - votes.sum()]:
        votes[index] += 1
    return [int(vote) for vote in votes]


def crop_files(shard: Shard) -> dict[str, str]:
    """Where a shard's faces and votes are written."""
    return {name: f"{CROPS}/{shard.id}.{name}" for name in (FACES_FILE, VOTES_FILE)}


def open_crops(stack: ExitStack, output: Output, shard: Shard) -> CropWriter:
    """The writer of a shard's faces; its files are there when `stack` closes without an error."""
    paths = [stack.enter_context(output.written(name)) for name in crop_files(shard).values()]
    return CropWriter(*(stack.enter_context(gzip.open(path, "wb", compresslevel=1)) for path in paths))


def join_crops(output: Output, shards: Sequence[Shard]) -> None:
    """One CSV of all faces and one of all votes, a row a face in the same order. Raises OSError."""
    for name, header in _HEADERS.items():
        with output.written(name) as path, path.open("wb") as joined:
            joined.write(gzip.compress(header.encode()))
            for shard in shards:
                part = crop_files(shard)[name]
                if output.exists(part):
                    with output.open(part) as file:
                        shutil.copyfileobj(file, joined, 1 << 20)  # gzip's members may follow one another
