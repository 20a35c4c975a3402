"""What cannot be written is told before a command begins, not after its hours of work."""

import argparse
from pathlib import Path

import pytest

from services.trainer.__main__ import main
from services.trainer.commands.arguments import new_file, new_folder


def test_places_that_need_not_exist_yet_are_taken(tmp_path: Path) -> None:
    assert new_file(str(tmp_path / "new/deep/file.json")) == tmp_path / "new/deep/file.json"
    assert new_folder(str(tmp_path / "new/deep")) == tmp_path / "new/deep"
    (tmp_path / "old.json").touch()
    assert new_file(str(tmp_path / "old.json")).exists()
    assert new_folder(str(tmp_path)) == tmp_path
    assert new_file("relative.json") == Path("relative.json")


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(argparse.ArgumentTypeError, match="is a folder; name a file"):
        new_file(str(tmp_path))
    with pytest.raises(argparse.ArgumentTypeError, match="is a file; name a folder"):
        new_folder(str(tmp_path / "file"))
    for check in (new_file, new_folder):
        with pytest.raises(argparse.ArgumentTypeError, match="not a folder that you may write to"):
            check(str(tmp_path / "file/below"))


def test_a_run_that_could_not_keep_its_result_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for command in (
        ["baselines", "--out", str(tmp_path)],
        ["train", "--config", "run.toml", "--workdir", str(tmp_path / "file")],
        ["export", "--workdir", "runs/one", "--out", str(tmp_path / "file/model")],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert "error: argument --" in capsys.readouterr().err


def test_a_folder_given_as_configuration_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", str(tmp_path), "--workdir", str(tmp_path / "run")]) == 2
    assert "cannot be read: Is a directory" in capsys.readouterr().err
