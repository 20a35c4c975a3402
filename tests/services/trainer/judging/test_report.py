"""The report is one page that needs nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.judging.report import report
from services.trainer.training.config import TargetConfig, TrainConfig
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
    two = brief.model_copy(update={"people": TargetConfig(original_weight=0)})
    train(two, voted, tmp_path / "run", quiet=True)
    page = report(tmp_path / "run", voted, tmp_path / "report").read_text()
    for title in (
        "Scores",
        "Per class, test, labels",
        "Per class, test, people",
        "Training",
        "Calibration, people",
        "Agreement",
        "Faces, people",
        "Where it looks, people",
        "Robustness",
    ):
        assert title in page, title
    assert re.search(rf"\d{{4}}-\d\d-\d\d; weights of epoch \d of 3; data FER2013 {voted.sha256[:8]}", page)
    assert 'name="viewport"' in page
    assert page.count('<div class="wide"><table>') == page.count("<table>")  # on a phone tables scroll alone
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]+", "", page)
    figures = re.findall(r'alt="[^"]+" src="data:image/png;base64,([^"]{2000,})"', page)
    assert len(figures) == 10
    names = {f"{figure}-{answer}" for figure in ("confusion", "reliability") for answer in ("labels", "people")}
    names |= {"curves", "mistakes", "right", "explanations", "robustness", "classes"}
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} == names
    assert json.loads((tmp_path / "report/robustness.json").read_text())["answers"]["people"]["images"] == 21
    assert "test" in json.loads((tmp_path / "report/evaluation.json").read_text())
