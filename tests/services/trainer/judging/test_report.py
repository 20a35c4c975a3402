"""The report is one page that needs nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.judging.report import report
from services.trainer.training.config import TrainConfig
from services.trainer.training.train import train


@pytest.fixture
def voted(drawn: Dataset) -> Dataset:
    """The drawn faces with ten raters who agree with the label seven times."""
    names = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    votes = np.zeros((len(drawn), 10), np.uint8)
    for row, label in enumerate(drawn.labels):
        votes[row, VOTE_COLUMNS.index(names[label])] = 7
        votes[row, VOTE_COLUMNS.index("unknown")] = 3
    return Dataset(drawn.pixels, drawn.labels, drawn.splits, drawn.repeated, votes)


def test_the_report_is_one_page_with_everything_in_it(voted: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    train(brief, voted, tmp_path / "run", quiet=True)
    page = report(tmp_path / "run", voted, tmp_path / "report").read_text()
    for title in (
        "Scores",
        "Per class, test, labels",
        "Training",
        "Calibration",
        "Agreement",
        "Faces",
        "Where it looks",
        "Robustness",
    ):
        assert title in page, title
    assert re.search(rf"\d{{4}}-\d\d-\d\d; weights of epoch \d of 3; data FER2013 {voted.sha256[:8]}", page)
    assert 'name="viewport"' in page
    assert page.count('<div class="wide"><table>') == page.count("<table>")  # on a phone tables scroll alone
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]+", "", page)
    figures = re.findall(r'alt="[^"]+" src="data:image/png;base64,([^"]{2000,})"', page)
    assert len(figures) == 8
    names = {"confusion-labels", "curves", "reliability-labels", "mistakes", "right"}
    names |= {"explanations", "robustness", "classes"}
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} == names
    assert json.loads((tmp_path / "report/robustness.json").read_text())["answers"]["labels"]["images"] == 21
    assert "test" in json.loads((tmp_path / "report/evaluation.json").read_text())
