"""Where a network's features become answers: one, or two from the same features."""

from collections.abc import Sequence

import keras
from keras import layers

from shared.emotions import EMOTIONS


def answers(x: keras.KerasTensor, heads: Sequence[str]) -> keras.KerasTensor | list[keras.KerasTensor]:
    """Seven probabilities from features (N, C) for each head; a single tensor where there are no names.

    They are computed in float32 whatever the rest is: the loss takes their logarithm.
    """
    if not heads:
        return _answer(x, "probabilities", "logits")
    return [_answer(x, name, f"{name}_logits") for name in heads]


def _answer(x: keras.KerasTensor, name: str, logits: str) -> keras.KerasTensor:
    scores = layers.Dense(len(EMOTIONS), name=logits, dtype="float32")(x)
    return layers.Softmax(name=name, dtype="float32")(scores)
