"""What a model was made from, as the run that made it wrote it down: for the cards of those made from it in turn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.trainer.data.dataset import FER2013
from services.trainer.errors import WorkdirError
from services.trainer.training.workdir import Workdir
from shared.manifest import MANIFEST_FILE, Source, load_manifest, sha256_of, unnamed


def source_of(model: Path) -> Source:
    """The name and hash of a run, its best model or a model directory, and what that was made from.

    Of any other file only name and hash are known. Raises ModelError or WorkdirError when a folder holds no model.
    """
    path = model.resolve()
    if (path / MANIFEST_FILE).exists():
        manifest = load_manifest(path)
        return _source(path.name, manifest.sha256, manifest.training.model_dump())
    home = Workdir(path if path.is_dir() else path.parent)
    if path.is_file() and path != _best_model(home):
        return Source(name=path.name, sha256=sha256_of(path))
    return _source(home.path.name, sha256_of(home.best_model()), home.read_run())


def _best_model(home: Workdir) -> Path | None:
    try:
        return home.best_model()
    except WorkdirError:  # the folder is no run's
        return None


def _source(name: str, sha256: str, run: Mapping[str, Any]) -> Source:
    made_from = {
        "data": run.get("data", FER2013),  # the only data of the first trainers
        "pretrained": run.get("pretrained"),
        "began_with": run.get("began_with") or unnamed(run.get("init_sha256")),
        "teachers": run.get("teachers", ()),
        "faces": run.get("faces"),
    }
    return Source.model_validate({"name": name, "sha256": sha256} | made_from)
