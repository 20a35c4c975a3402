"""The rules of the house that a machine can hold."""

import subprocess
import sys

import pytest
from pydantic import SecretStr

from shared.manifest import load_manifest
from tests.conftest import ROOT, SHIPPED_MODEL

SOURCES = [path for name in ("shared", "services") for path in sorted((ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("package", ["shared.analyzer", "services.api.__main__"])
def test_what_serves_never_imports_what_trains(package: str) -> None:
    heavy = ("tensorflow", "keras", "pandas", "sklearn", "skimage", "matplotlib", "services.trainer")
    program = f"import {package}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_way_from_bytes_to_emotions_knows_no_web() -> None:
    program = "import shared.analyzer, sys; print([n for n in ('fastapi', 'starlette', 'uvicorn') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_below_three_hundred_lines(path) -> None:
    assert len(path.read_text().splitlines()) < 300


def test_every_setting_is_documented() -> None:
    from services.api.settings import PREFIX, Settings

    table = (ROOT / "docs/operations.md").read_text()
    for name, field in Settings.model_fields.items():
        variable = f"`{PREFIX}{name.upper()}`"
        line = next((line for line in table.splitlines() if line.startswith(f"| {variable} |")), None)
        assert line is not None, f"{variable} is not in docs/operations.md"
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = "" if default in (None, "") else f"`{default}`"
        assert line.startswith(f"| {variable} | {shown} |"), line
        assert field.description in line, line


def test_no_documented_setting_is_gone() -> None:
    from services.api.settings import PREFIX, Settings

    known = {PREFIX + name.upper() for name in Settings.model_fields}
    rows = (
        line.split("|")[1].strip(" `")
        for line in (ROOT / "docs/operations.md").read_text().splitlines()
        if line.startswith("| `MIEN_")
    )
    assert set(rows) == known


def test_the_readme_gives_the_shipped_model_s_figures() -> None:
    test = load_manifest(SHIPPED_MODEL).metrics["test"]
    readme = (ROOT / "README.md").read_text()
    for answer, yardstick in (("labels", "all"), ("people", "consensus")):
        scores = test.get(answer, test["labels"])[yardstick]
        assert f"{scores.accuracy * 100:.1f} %" in readme, yardstick
    assert f"{(SHIPPED_MODEL / 'model.onnx').stat().st_size / 1e6:.1f} MB" in readme


@pytest.mark.parametrize("name", ["default", "paper"])
def test_a_shipped_card_is_what_the_trainer_makes_of_its_manifest(name: str) -> None:
    from services.trainer.judging.card import model_card

    directory = ROOT / "models" / name
    assert (directory / "card.md").read_text() == model_card(load_manifest(directory))
