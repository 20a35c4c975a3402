"""Overlap of boxes."""

import pytest

from shared.boxes import Box, PixelBox, intersection_over_union


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (PixelBox(0, 0, 10, 10), PixelBox(0, 0, 10, 10), 1),
        (PixelBox(0, 0, 10, 10), PixelBox(10, 0, 10, 10), 0),
        (PixelBox(0, 0, 10, 10), PixelBox(5, 0, 10, 10), 1 / 3),
        (Box(0, 0, 10, 10), Box(2.5, 2.5, 5, 5), 0.25),
        (Box(-5, -5, 10, 10), PixelBox(50, 50, 10, 10), 0),
    ],
)
def test_overlap_is_the_shared_part_of_both(one: Box, other: Box, expected: float) -> None:
    assert intersection_over_union(one, other) == pytest.approx(expected)
    assert intersection_over_union(other, one) == pytest.approx(expected)
