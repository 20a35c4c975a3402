"""The seven classes, in the order in which every model of ours answers, and the colour of each."""

from typing import Final

EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

# sRGB; told apart in light and dark and by most colour-blind people. The page and the examples repeat them: a test
# compares.
EMOTION_COLORS: Final = {
    "angry": "#c9372c",
    "disgust": "#7a9a01",
    "fear": "#8250df",
    "happy": "#b77900",
    "neutral": "#7d8590",
    "sad": "#2f7de1",
    "surprise": "#d6409f",
}
