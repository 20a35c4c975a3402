"""The data file: the faces, labels and splits of a run, in one compact .npz."""

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from services.trainer.errors import DataError
from shared.atomic import atomic_file
from shared.emotions import EMOTIONS

FORMAT_VERSION: Final = 1
FER2013: Final = "FER2013"
FACE_SIZE_PX: Final = 48
Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")  # FER2013: Training, PublicTest, PrivateTest
# The columns of the FER+ votes (fer2013new.csv), in its order; the seven we have, then three that we do not.
VOTE_COLUMNS: Final = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
_VOTES_IN_MODEL_ORDER: Final = [4, 5, 6, 1, 0, 3, 2]
CONSENSUS_VOTES: Final = 6  # of ten raters: what people clearly see

Targets: TypeAlias = npt.NDArray[np.float32]  # (N, 7), rows sum to 1


@dataclass(frozen=True, slots=True)
class Dataset:
    """Faces with labels, in the order of their source.

    `repeated` marks validation and test images that had a pixel-for-pixel copy in the training split; these copies
    are removed. `votes` are those of FER+'s ten raters, all zero where unknown.
    """

    pixels: npt.NDArray[np.uint8]  # (N, 48, 48)
    labels: npt.NDArray[np.int8]  # (N,), index into EMOTIONS
    splits: npt.NDArray[np.int8]  # (N,), index into SPLITS
    repeated: npt.NDArray[np.bool_]  # (N,)
    votes: npt.NDArray[np.uint8]  # (N, 10), VOTE_COLUMNS
    name: str = FER2013  # what cards call it; not part of the content

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, mask: npt.NDArray[np.bool_]) -> "Dataset":
        """The images for which `mask` is true."""
        return replace(self, **{name: column[mask] for name, column in self._columns().items()})

    def split(self, name: Split) -> "Dataset":
        """One split, in source order."""
        return self.part(self.splits == SPLITS.index(name))

    @property
    def has_votes(self) -> bool:
        return bool(self.votes.any())

    @property
    def votes_for_emotions(self) -> npt.NDArray[np.uint8]:
        """FER+ votes for our seven classes, (N, 7) in model order."""
        return self.votes[:, _VOTES_IN_MODEL_ORDER]

    @property
    def not_a_face(self) -> npt.NDArray[np.bool_]:
        """Images in which at least half of FER+'s raters saw no face."""
        return self.votes[:, VOTE_COLUMNS.index("NF")] >= 5

    @property
    def consensus(self) -> npt.NDArray[np.int8]:
        """(N,) the emotion on which at least six of ten raters agree, -1 where there is none."""
        seven = self.votes_for_emotions
        agreed = seven.max(axis=1) >= CONSENSUS_VOTES
        return np.where(agreed, seven.argmax(axis=1), -1).astype(np.int8)

    @property
    def sha256(self) -> str:
        """Identifies the content, however its file was compressed."""
        digest = hashlib.sha256(f"mien-dataset-{FORMAT_VERSION}".encode())
        for column in self._columns().values():
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def targets(self, original_weight: float, label_smoothing: float) -> Targets:
        """The targets of training: `original_weight` of the label plus the rest of the FER+ vote share, then smoothed.

        An image with fewer than three votes for our seven classes keeps its label alone.
        """
        original = np.eye(len(EMOTIONS), dtype=np.float32)[self.labels]
        votes = self.votes_for_emotions.astype(np.float32)
        total = votes.sum(axis=1, keepdims=True)
        share = np.where(total >= 3, votes / np.maximum(total, 1), original)
        mixed = original_weight * original + (1 - original_weight) * share
        return (mixed * (1 - label_smoothing) + label_smoothing / len(EMOTIONS)).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the data file, completely or not at all."""
        stored: dict[str, Any] = {"version": np.int64(FORMAT_VERSION), "emotions": np.array(EMOTIONS)}
        with atomic_file(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **stored, name=np.array(self.name), **self._columns())

    @classmethod
    def load(cls, path: Path) -> "Dataset":
        """Read a data file that `prepare` wrote.

        Raises DataError when it is missing or damaged, or has another version or other classes.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                stored = {name: archive[name] for name in archive.files}
        except FileNotFoundError as error:
            raise DataError(
                f"There is no data file {path}. Make it with `python -m services.trainer prepare`."
            ) from error
        except Exception as error:  # numpy and zlib raise whatever the damage leads them to
            raise DataError(f"{path} is not a data file, or is damaged ({error}). Run `prepare` again.") from error
        version = int(stored.get("version", -1))
        if version != FORMAT_VERSION:
            raise DataError(
                f"{path} has version {version}; this trainer reads version {FORMAT_VERSION}. Run `prepare` again."
            )
        if tuple(stored.get("emotions", ())) != EMOTIONS:
            theirs = ", ".join(stored.get("emotions", ()))
            raise DataError(f"{path} has the classes {theirs}; they must be {', '.join(EMOTIONS)}.")
        stored["name"] = str(stored.get("name", FER2013))  # files of earlier trainers have none
        missing = [field.name for field in fields(cls) if field.name not in stored]
        if missing:
            raise DataError(f"{path} is damaged: it has no {', '.join(missing)}. Run `prepare` again.")
        return cls(**{field.name: stored[field.name] for field in fields(cls)})

    def _columns(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}


def square_root_chances(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """(N,) how likely to draw each image, so that a class comes as often as the square root of its frequency."""
    weights = np.bincount(labels)[labels].astype(np.float64) ** -0.5
    return np.asarray(weights / weights.sum())
