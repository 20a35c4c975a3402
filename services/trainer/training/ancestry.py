"""What a model was made from, as the run that made it wrote it down: for the cards of those made from it in turn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from services.trainer.data.dataset import FER2013
from services.trainer.errors import WorkdirError
from services.trainer.training.workdir import RUN_FILE, Workdir
from shared.manifest import MANIFEST_FILE, Source, beginnings, load_manifest, sha256_of


def source_of(model: Path) -> Source:
    """The name and hash of a run, its best model or a model directory, and what that was made from.

    Of any other file only name and hash are known. Raises ModelError or WorkdirError when a folder holds no model, or
    when what its run wrote down cannot be read.
    """
    path = model.resolve()
    if (path / MANIFEST_FILE).exists():
        manifest = load_manifest(path)
        return _source(path.name, manifest.sha256, manifest.training.model_dump())
    home = Workdir(path if path.is_dir() else path.parent)
    if path.is_file() and not ((home.path / RUN_FILE).exists() and path == home.best_model()):
        return Source(name=path.name, sha256=sha256_of(path))
    try:
        return _source(home.path.name, sha256_of(home.best_model()), home.read_run())
    except ValidationError as error:
        raise WorkdirError(f"{home.path / RUN_FILE} is damaged: {error}.") from error


def _source(name: str, sha256: str, run: Mapping[str, Any]) -> Source:
    known = {key: run[key] for key in ("pretrained", "began_with", "teachers", "faces") if run.get(key)}
    data = run.get("data", FER2013)  # the only data of the first trainers
    source = Source.model_validate({"name": name, "sha256": sha256, "data": data} | known)
    return source.model_copy(update={"began_with": beginnings(source.began_with, run.get("init_sha256"))})
