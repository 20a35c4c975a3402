"""The networks are what they are said to be."""

import numpy as np
import pytest

from services.trainer.errors import ConfigError
from services.trainer.training import networks


def test_the_paper_s_network_is_the_paper_s_to_the_letter() -> None:
    model = networks.paper()
    assert model.count_params() == 4_237_831
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization", "MaxPooling2D", "Dropout"]
    assert kinds == [*block * 4, "Flatten", "Dense", "Dropout", "Dense", "Dropout", "Dense"]
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert [layer.filters for layer in convolutions] == [128, 256, 512, 512]
    assert {layer.padding for layer in convolutions} == {"valid"}
    dropouts = [layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"]
    assert dropouts == [0.4, 0.4, 0.4, 0.4, 0.4, 0.3]


def test_the_light_network_stays_light() -> None:
    assert 0.6e6 < networks.mien_small().count_params() < 0.8e6


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_answers_seven_probabilities(name: str) -> None:
    faces = np.random.default_rng(0).random((3, 48, 48, 1), np.float32)
    answer = np.asarray(networks.build(name)(faces, training=False))
    assert answer.shape == (3, 7)
    assert np.allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_an_unknown_network_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="paper, mien-small"):
        networks.build("resnet-9000")
