"""The colours of the emotions are those of shared/emotions.py, wherever they are repeated."""

import re

import pytest

from shared.emotions import EMOTION_COLORS
from tests.conftest import ROOT


@pytest.mark.parametrize("path", ["services/api/web/faces.js", "examples/stream_video.py"])
def test_pages_and_examples_repeat_the_colours(path: str) -> None:
    found = re.findall(r'"?(\w+)"?: "(#[0-9a-f]{6})"', (ROOT / path).read_text())
    assert dict(found) == EMOTION_COLORS
