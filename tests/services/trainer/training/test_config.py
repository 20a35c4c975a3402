"""A configuration says only what can be meant, and every one we ship can."""

from pathlib import Path

import pytest

from services.trainer.errors import ConfigError
from services.trainer.training.config import load_config
from tests.conftest import ROOT

SHIPPED = sorted((ROOT / "services/trainer/configs").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid_and_says_how_to_run_it_how_long_and_what_comes_out(path: Path) -> None:
    assert load_config(path).epochs > 0
    head = [line for line in path.read_text().splitlines()[:6] if line.startswith("# ")]
    assert any(line.startswith("# Command: python -m services.trainer train") for line in head)
    assert {line.split(":")[0] for line in head} >= {"# Time", "# Result"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('network = "paper"\nepochs = 5\nepoch = 6', "epoch: Extra inputs"),
        ('network = "paper"\nepochs = 5\n[optimizer]\nlr = 1', r"optimizer\.lr: Extra inputs"),
        ('network = "paper"\nepochs = 0', "epochs: Input should be greater"),
        ('network = "paper"', "epochs: Field required"),
        ('network = "paper"\nepochs = 5\n[target]\noriginal_weight = 2', "original_weight"),
        ('network = "paper"\nepochs = 5\n[augment]\nzoom = [1.2, 0.8]', r"augment\.zoom: .*must not be larger"),
        ('network = "paper"\nepochs = 5\n[augment]\nerase_px = [20, 6]', r"augment\.erase_px: .*must not be larger"),
        ('network = "paper"\nepochs = 5\n[augment]\nerase_px = [6, 48]', r"augment\.erase_px"),
        ("network = paper", "not TOML"),
    ],
)
def test_what_cannot_be_meant_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "run.toml")


def test_a_missing_file_says_where_ours_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="services/trainer/configs"):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
