"""A .tflite of MobileNetV1 becomes a network that answers the same and can learn on."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from services.trainer.errors import ConfigError
from services.trainer.training.mobilenet_v1 import load_tflite, mobilenet_v1
from services.trainer.training.networks import build
from services.trainer.training.predictors import keras_predictor
from tests.drawn import draw_face

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Interpreter is deprecated:UserWarning", "ignore:Statistics for:UserWarning"
)


def convert(model: keras.Model, path: Path) -> Path:
    import tensorflow as tf

    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


@pytest.fixture(scope="module")
def elsewhere() -> keras.Model:
    """A network of the file's kind, with random weights: biases instead of normalization, 224 pixels of BGR."""
    keras.utils.set_random_seed(5)
    pixels = x = keras.Input((224, 224, 3))
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]

    def bias() -> keras.initializers.Initializer:
        return keras.initializers.RandomUniform(0, 1)

    x = layers.ReLU(6.0)(layers.Conv2D(32, 3, strides=2, padding="same", bias_initializer=bias())(x))
    for filters, strides in blocks:
        x = layers.DepthwiseConv2D(3, strides=strides, padding="same", bias_initializer=bias())(x)
        x = layers.Conv2D(filters, 1, kernel_initializer="he_normal", bias_initializer=bias())(layers.ReLU(6.0)(x))
        x = layers.ReLU(6.0)(x)
    x = layers.Dense(256, activation="relu", bias_initializer=bias())(layers.GlobalAveragePooling2D()(x))
    return keras.Model(pixels, layers.Dense(7, activation="softmax", bias_initializer=bias())(x))


def test_it_answers_as_the_file_does(elsewhere: keras.Model, rng: np.random.Generator, tmp_path: Path) -> None:
    faces = np.stack([draw_face(emotion, rng) for emotion in ("happy", "sad", "angry", "neutral")])
    model = mobilenet_v1(224, ("labels", "people"))
    load_tflite(model, convert(elsewhere, tmp_path / "face.tflite"), faces)
    large = layers.Resizing(224, 224)(faces[..., np.newaxis].astype(np.float32))
    bgr = np.repeat(np.asarray(large), 3, axis=-1) - np.array([103.939, 116.779, 123.68], np.float32)
    expected = elsewhere.predict_on_batch(bgr)
    for answer in keras_predictor(model)(faces).values():
        assert np.allclose(answer, expected, atol=1e-3)


def test_another_file_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    faces = np.stack([draw_face("happy", rng)])
    model = mobilenet_v1(96, ("probabilities",))
    with pytest.raises(ConfigError, match="no file"):
        load_tflite(model, tmp_path / "missing.tflite", faces)
    (tmp_path / "text.tflite").write_text("weights")
    with pytest.raises(ConfigError, match="not a TensorFlow Lite model"):
        load_tflite(model, tmp_path / "text.tflite", faces)
    pixels = keras.Input((224, 224, 3))
    for classes, fault in ((8, "answers 7 classes"), (7, "layers with weights")):
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, strides=2)(pixels))
        other = convert(keras.Model(pixels, layers.Dense(classes)(x)), tmp_path / f"{classes}.tflite")
        with pytest.raises(ConfigError, match=fault):
            load_tflite(model, other, faces)


@pytest.mark.parametrize("name", ["mobilenet-v1", "mobilenet-v1:big", "mobilenet-v1:9"])
def test_a_side_that_cannot_be_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match="32 to 224 pixels"):
        build(name)
