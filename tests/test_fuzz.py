"""Whatever is sent, what comes of it is an answer or an error that we expect. `make fuzz` goes on for longer."""

import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import edited, targets

EDITS = st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=8)
TARGETS = {name: (seed, read) for name, seed, read in targets()}


@pytest.mark.parametrize("name", TARGETS)
def test_edited_inputs_raise_nothing_unforeseen(name: str) -> None:
    seed, read = TARGETS[name]

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(EDITS)
    def holds(edits: list[tuple[int, int, bytes]]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(edited(seed, edits))

    assert read(seed)
    holds()
