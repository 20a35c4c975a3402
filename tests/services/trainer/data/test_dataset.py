"""The data file holds what training asks for, and refuses to be mistaken."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.errors import DataError
from shared.emotions import EMOTIONS


def with_votes(*rows: dict[str, int], labels: list[str]) -> Dataset:
    count = len(rows)
    return Dataset(
        pixels=np.zeros((count, 48, 48), np.uint8),
        labels=np.array([EMOTIONS.index(label) for label in labels], np.int8),
        splits=np.zeros(count, np.int8),
        repeated=np.zeros(count, bool),
        votes=np.array([[row.get(name, 0) for name in VOTE_COLUMNS] for row in rows], np.uint8),
    )


def test_targets_mix_the_label_with_the_share_of_votes() -> None:
    data = with_votes({"happiness": 6, "neutral": 2, "contempt": 2}, labels=["sad"])
    (target,) = data.targets(original_weight=0.6, label_smoothing=0)
    expected = {"sad": 0.6, "happy": 0.4 * 0.75, "neutral": 0.4 * 0.25}
    assert dict(zip(EMOTIONS, target, strict=True)) == pytest.approx({e: expected.get(e, 0) for e in EMOTIONS})


def test_too_few_votes_leave_the_label() -> None:
    data = with_votes({"happiness": 2, "unknown": 8}, {}, labels=["sad", "fear"])
    assert data.targets(0.5, 0).argmax(axis=1).tolist() == [EMOTIONS.index("sad"), EMOTIONS.index("fear")]
    assert data.targets(0.5, 0).max(axis=1).tolist() == [1, 1]


def test_smoothing_keeps_the_sum() -> None:
    target = with_votes({}, labels=["angry"]).targets(1, 0.1)[0]
    assert target.sum() == pytest.approx(1)
    assert target[1] == pytest.approx(0.1 / 7)


def test_consensus_needs_six_of_ten_on_one_of_ours() -> None:
    data = with_votes(
        {"anger": 6, "sadness": 4}, {"anger": 5, "sadness": 5}, {"contempt": 9}, {"surprise": 10}, labels=["sad"] * 4
    )
    assert data.consensus.tolist() == [EMOTIONS.index("angry"), -1, -1, EMOTIONS.index("surprise")]


def test_half_of_the_raters_tell_what_is_no_face() -> None:
    assert with_votes({"NF": 5}, {"NF": 4}, labels=["sad"] * 2).not_a_face.tolist() == [True, False]


def test_the_hash_is_of_the_content(drawn: Dataset, tmp_path: Path) -> None:
    drawn.save(tmp_path / "again.npz")
    assert Dataset.load(tmp_path / "again.npz").sha256 == drawn.sha256
    assert drawn.split("train").sha256 != drawn.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "Make it with"), (b"PK\x03\x04 cut", "damaged"), (b"text", "damaged")],
)
def test_what_is_no_data_file_is_an_error(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Dataset.load(tmp_path / "data.npz")


def test_half_a_data_file_is_an_error(drawn: Dataset, tmp_path: Path) -> None:
    drawn.save(tmp_path / "data.npz")
    whole = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        Dataset.load(tmp_path / "data.npz")


def test_a_data_file_of_another_version_or_other_classes_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "old.npz", version=np.int64(0), emotions=np.array(EMOTIONS))
    with pytest.raises(DataError, match="version 0; this trainer reads version 1"):
        Dataset.load(tmp_path / "old.npz")
    np.savez(tmp_path / "other.npz", version=np.int64(1), emotions=np.array(["yes", "no"]))
    with pytest.raises(DataError, match="classes yes, no"):
        Dataset.load(tmp_path / "other.npz")
    np.savez(tmp_path / "more.npz", version=np.int64(1), emotions=np.array(EMOTIONS))
    with pytest.raises(DataError, match="damaged"):
        Dataset.load(tmp_path / "more.npz")
