"""The rules of the house that a machine can hold."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from pydantic import SecretStr

from shared.manifest import load_manifest
from tests.conftest import ROOT, SHIPPED_MODEL

PYTHON = {
    path: path.read_text()
    for name in ("shared", "services", "tests", "benchmarks", "examples")
    for path in sorted((ROOT / name).rglob("*.py"))
}


def _imports() -> dict[str, set[str]]:
    """Which of our modules each of them imports, at its head or inside a function."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(text) for path, text in PYTHON.items()}
    found: dict[str, set[str]] = {}
    for module, tree in modules.items():
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[module] = (names & set(modules)) - {module}
    return found


IMPORTS = _imports()


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


def test_the_service_leaves_the_libraries_of_the_pipeline_to_its_workers() -> None:
    heavy = ("cv2", "onnxruntime", "PIL", "simplejpeg", "pillow_heif")
    program = f"import services.api.server, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_stay_below_three_hundred_lines() -> None:
    long = {str(path.relative_to(ROOT)) for path, source in PYTHON.items() if source.count("\n") >= 300}
    assert not long


def test_functions_stay_below_forty_lines() -> None:
    long = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for path, source in PYTHON.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno + 1 >= 40
    }
    assert not long


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count too: such a circle is only a later surprise."""
    sorter = TopologicalSorter(IMPORTS)
    sorter.prepare()  # raises CycleError, which names the circle


def test_the_trainer_s_wings_import_downward_only() -> None:
    ranks = {
        wing: rank for rank, wing in enumerate(("data", "training", "judging", "shipping", "commands", "__main__"))
    }
    upward = [
        f"{importer} -> {imported}"
        for importer, imported in _within_the_trainer()
        if ranks.get(_wing(imported), -1) > ranks.get(_wing(importer), len(ranks))
    ]
    assert upward == []


def test_the_trainer_s_errors_and_plots_know_nothing_of_it() -> None:
    known = [pair for pair in _within_the_trainer() if _wing(pair[0]) in ("errors", "plots")]
    assert known == []


def test_the_detector_s_wing_stands_by_itself() -> None:
    used = {_wing(imported) for importer, imported in _within_the_trainer() if _wing(importer) == "detector"}
    assert used <= {"detector", "data", "errors", "commands"}  # its command line checks arguments as the others do
    users = {_wing(importer) for importer, imported in _within_the_trainer() if _wing(imported) == "detector"}
    assert users <= {"detector", "__main__"}


def _within_the_trainer() -> list[tuple[str, str]]:
    trainer = "services.trainer."
    return [
        (importer, imported)
        for importer, names in IMPORTS.items()
        for imported in names
        if importer.startswith(trainer) and imported.startswith(trainer)
    ]


def _wing(module: str) -> str:
    return module.split(".")[2]


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
        assert field.description is not None
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
    for scores in (test["labels"]["all"], test.get("people", test["labels"])["consensus"]):
        assert f"{scores.accuracy * 100:.1f} %" in readme
    assert f"{(SHIPPED_MODEL / 'model.onnx').stat().st_size / 1e6:.1f} MB" in readme


@pytest.mark.parametrize("name", ["default", "paper"])
def test_a_shipped_card_is_what_the_trainer_makes_of_its_manifest(name: str) -> None:
    from services.trainer.judging.card import model_card

    directory = ROOT / "models" / name
    assert (directory / "card.md").read_text() == model_card(load_manifest(directory))
