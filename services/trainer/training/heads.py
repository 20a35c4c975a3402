"""Where a network's features become answers: one, or two from the same features."""

from collections.abc import Sequence

import keras
from keras import layers

from shared.emotions import EMOTIONS


def answers(x: keras.KerasTensor, heads: Sequence[str]) -> keras.KerasTensor | list[keras.KerasTensor]:
    """Seven probabilities from features (N, C) for each head; a single tensor where there are no names."""
    if not heads:
        return layers.Softmax(name="probabilities")(layers.Dense(len(EMOTIONS), name="logits")(x))
    return [layers.Softmax(name=name)(layers.Dense(len(EMOTIONS), name=f"{name}_logits")(x)) for name in heads]
