"""Runs, models and baselines side by side, whenever they were evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import SPLITS, Dataset
from services.trainer.errors import DataError
from services.trainer.judging.compare import compare, distinct_names, write_named
from services.trainer.judging.evaluate import evaluate, write_evaluation
from services.trainer.training.predictors import Answers
from tests.conftest import ROOT


def always_angry(faces: np.ndarray) -> Answers:
    return {"labels": np.eye(7, dtype=np.float32)[np.zeros(len(faces), int)]}


def always_angry_and_people_disgusted(faces: np.ndarray) -> Answers:
    return {**always_angry(faces), "people": np.eye(7, dtype=np.float32)[np.ones(len(faces), int)]}


def test_a_row_for_each_run_model_and_baseline(drawn: Dataset, tmp_path: Path) -> None:
    write_named({"majority class": evaluate(always_angry, drawn, SPLITS[1:])}, tmp_path / "baselines.json", drawn)
    (tmp_path / "run").mkdir()
    write_evaluation(evaluate(always_angry, drawn, SPLITS[1:]), tmp_path / "run/evaluation.json", drawn)
    rows = compare([tmp_path / "baselines.json", tmp_path / "run"]).rows
    assert [row[0] for row in rows] == ["majority class", "run"]
    assert rows[0][1:3] == rows[1][1:3] == ("0.1429", "0.1429")
    assert rows[1][5] == ""  # no votes, no consensus


def test_rows_of_different_data_name_it(drawn: Dataset, tmp_path: Path) -> None:
    write_evaluation(evaluate(always_angry, drawn, SPLITS[1:]), tmp_path / "evaluation.json", drawn)
    table = compare([tmp_path, ROOT / "models/paper", ROOT / "docs/training/baselines.json"])
    assert table.head[1] == "data"
    assert table.rows[0][1] == f"{drawn.name} {drawn.sha256[:8]}"
    assert {row[1] for row in table.rows[1:]} == {"FER2013 237ab9a4"}
    assert table.rows[1][3] == "0.5985"


def test_two_answers_are_two_rows(drawn: Dataset, tmp_path: Path) -> None:
    write_evaluation(evaluate(always_angry_and_people_disgusted, drawn, SPLITS[1:]), tmp_path / "evaluation.json")
    names = [row[0] for row in compare([tmp_path]).rows]
    assert names == [f"{tmp_path.name}, labels", f"{tmp_path.name}, people"]


def test_scores_of_earlier_trainers_are_read(tmp_path: Path) -> None:
    (row, *_) = compare([ROOT / "docs/training/baselines.json"]).rows
    assert row[0] == "majority class"
    assert row[2] == "0.2449"


def test_what_holds_no_scores_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not been evaluated yet"):
        compare([tmp_path])
    for content in ("[]", "{", json.dumps({"test": {"all": 1}})):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(DataError, match="holds no scores"):
            compare([tmp_path / "x.json"])


def test_names_are_as_long_as_it_takes_to_tell_them_apart(tmp_path: Path) -> None:
    names = distinct_names([tmp_path / "a/run", tmp_path / "b/run", tmp_path / "c"])
    assert list(names) == ["a/run", "b/run", f"{tmp_path.name}/c"]
