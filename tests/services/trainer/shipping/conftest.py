"""A trained run and the model directory made from it, once for all that is shipped."""

from pathlib import Path

import pytest

from services.trainer.commands.arguments import GEOMETRY
from services.trainer.data.dataset import Dataset
from services.trainer.data.geometry import read_geometry
from services.trainer.shipping.export import export
from services.trainer.training.config import TrainConfig
from services.trainer.training.train import train


@pytest.fixture(scope="package")
def run(drawn: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mien-small that has seen the drawn faces for three epochs."""
    home = tmp_path_factory.mktemp("shipping") / "run"
    train(TrainConfig(network="mien-small", epochs=3, batch_size=14), drawn, home, quiet=True)
    return home


@pytest.fixture(scope="package")
def model(run: Path, drawn: Dataset) -> Path:
    """The model directory of `run`."""
    return export(run, drawn, read_geometry(GEOMETRY), run.parent / "models/whole").directory
