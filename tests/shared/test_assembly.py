"""An analyzer from plain arguments."""

from pathlib import Path

import pytest

from shared.analysis import Options
from shared.assembly import available_detectors, open_analyzer, open_detector
from shared.detectors import DetectorFiles
from shared.errors import DetectorError, ModelError
from shared.manifest import load_manifest
from shared.pictures import ImageLimits
from tests.conftest import SHIPPED_MODEL
from tests.tiny_model import make_model


def test_auto_uses_yunet_where_it_is_installed_and_haar_otherwise(tmp_path: Path, yunet_model: Path) -> None:
    for path, expected in ((yunet_model, ["yunet", "haar"]), (tmp_path / "none.onnx", ["haar"])):
        files = DetectorFiles(tmp_path / "none", path)
        assert available_detectors(files) == expected
        assert open_analyzer(SHIPPED_MODEL, files=files).detector.name == expected[0]


def test_a_detector_that_was_named_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="make yunet"):
        open_detector("yunet", DetectorFiles(yunet=tmp_path / "none.onnx"))
    assert open_detector("haar", DetectorFiles(yunet=tmp_path / "none.onnx")).name == "haar"


def test_a_model_without_the_detector_s_crop_is_refused(tmp_path: Path) -> None:
    manifest = load_manifest(SHIPPED_MODEL)
    only_yunet = manifest.model_copy(update={"crop": {"yunet": manifest.crop["yunet"]}})
    only_yunet.save(tmp_path)
    (tmp_path / "model.onnx").write_bytes((SHIPPED_MODEL / "model.onnx").read_bytes())
    with pytest.raises(ModelError, match="no crop geometry for the detector 'haar'"):
        open_analyzer(tmp_path, "haar")


def test_the_mirror_and_the_limits_reach_the_analyzer(jpeg: bytes, tmp_path: Path) -> None:
    limits, model = ImageLimits(target_side_px=512), make_model(tmp_path, {"labels": None})
    plain, mirrored = (open_analyzer(model, "haar", limits=limits, mirror=flag) for flag in (False, True))
    assert plain.limits == mirrored.limits == limits
    (once,), (twice,) = (analyzer.analyze(jpeg, Options()).faces for analyzer in (plain, mirrored))
    assert once.box == twice.box
    assert once.probabilities != twice.probabilities
