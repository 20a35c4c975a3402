"""The maps point at what decides."""

import keras
import numpy as np
import pytest
from keras import layers

from services.trainer.errors import TrainerError
from services.trainer.judging.explain import grad_cam, occlusion
from services.trainer.training import networks


def spot(row: int, column: int) -> np.ndarray:
    face = np.full((48, 48), 20, np.uint8)
    face[row : row + 8, column : column + 8] = 250
    return face


def test_grad_cam_lights_up_where_the_evidence_is() -> None:
    faces = keras.Input((48, 48, 1))
    x = layers.Conv2D(1, 8, strides=8, kernel_initializer="ones", use_bias=False)(faces)  # a map of 6x6 brightnesses
    x = layers.GlobalMaxPooling2D()(x)
    model = keras.Model(faces, layers.Dense(7, activation="softmax", kernel_initializer="glorot_uniform")(x))
    kernel = np.full((1, 7), -0.1, np.float32)
    kernel[0, 3] = 0.1
    model.layers[-1].set_weights([kernel, np.zeros(7, np.float32)])
    maps = grad_cam(model, np.stack([spot(8, 32), spot(40, 0)]))
    assert maps.shape == (2, 6, 6)
    assert np.unravel_index(maps[0].argmax(), (6, 6)) == (1, 4)
    assert np.unravel_index(maps[1].argmax(), (6, 6)) == (5, 0)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_grad_cam_works_on_our_networks(name: str, rng: np.random.Generator) -> None:
    maps = grad_cam(networks.build(name), rng.integers(0, 256, (2, 48, 48), dtype=np.uint8))
    assert maps.shape[0] == 2
    assert min(maps.shape[1:]) >= 4
    assert np.isfinite(maps).all()


def test_a_network_without_a_map_is_told() -> None:
    model = keras.Sequential([keras.Input((48, 48, 1)), layers.Flatten(), layers.Dense(7, activation="softmax")])
    with pytest.raises(TrainerError, match="no feature map"):
        grad_cam(keras.Model(model.inputs, model.outputs), np.zeros((1, 48, 48), np.uint8))


def test_occlusion_lights_up_where_covering_hurts() -> None:
    def predict(faces: np.ndarray) -> np.ndarray:
        evidence = faces[:, 8:16, 32:40].mean(axis=(1, 2)) / 255
        answers = np.full((len(faces), 7), 0.01, np.float32)
        answers[:, 3] = evidence
        return answers

    heat = occlusion(predict, spot(8, 32))
    assert heat.shape == (48, 48)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 8 <= row < 16
    assert 32 <= column < 40
    assert heat[40:, :8].max() == 0
