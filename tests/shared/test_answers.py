"""Whom one expects changes what one sees: priors, worked out by hand."""

from typing import Any

import numpy as np
import pytest

from shared.answers import default_answer, with_prior
from shared.errors import UnusablePrior

# angry and happy alone, happy nine times as often in training.
FREQUENCIES = [0.1, 0, 0, 0.9, 0, 0, 0]
EVEN = np.array([[0.5, 0, 0, 0.5, 0, 0, 0]], np.float32)


def test_a_natural_prior_changes_nothing() -> None:
    assert with_prior(EVEN, "natural", FREQUENCIES, 0.5) is EVEN


def test_a_balanced_prior_divides_by_a_power_of_the_training_shares() -> None:
    (read,) = with_prior(EVEN, "balanced", FREQUENCIES, 0.5)
    assert read[[0, 3]] == pytest.approx([3 / 4, 1 / 4], abs=1e-6)  # 1 / sqrt(.1) to 1 / sqrt(.9)
    assert np.allclose(with_prior(EVEN, "balanced", FREQUENCIES, 0.0), EVEN)


def test_expected_shares_take_the_place_of_the_training_shares() -> None:
    (read,) = with_prior(EVEN, [1, 0, 0, 1, 0, 0, 0], FREQUENCIES, 0.5)  # sums to anything
    assert read[[0, 3]] == pytest.approx([0.9, 0.1], abs=1e-6)
    assert np.allclose(with_prior(EVEN, FREQUENCIES, FREQUENCIES, 0.5), EVEN)
    assert with_prior(EVEN[:0], "balanced", FREQUENCIES, 0.5).shape == (0, 7)


def test_where_nothing_expected_is_seen_the_expectation_is_the_answer() -> None:
    (read,) = with_prior(EVEN, [0, 1, 3, 0, 0, 0, 0], FREQUENCIES, 0.5)
    assert read == pytest.approx([0, 0.25, 0.75, 0, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("fair", "natural, balanced or seven shares"),
        ([1, 2], "7 shares, in the order angry"),
        ([1, 1, 1, 1, 1, 1, -1], "at least 0"),
        ([0] * 7, "not all 0"),
        ([1, 1, 1, 1, 1, 1, float("nan")], "finite"),
    ],
)
def test_what_is_no_prior_is_named(prior: Any, message: str) -> None:
    with pytest.raises(UnusablePrior, match=message):
        with_prior(EVEN, prior, FREQUENCIES, 0.5)


def test_people_answer_unless_labels_are_all_there_is() -> None:
    assert default_answer(["labels", "people"]) == "people"
    assert default_answer(["labels"]) == "labels"
