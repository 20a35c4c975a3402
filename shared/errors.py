"""Everything that can go wrong on the way from bytes to emotions.

    MienError
    ├── ImageError                 a fault of the picture
    │   ├── UndecodableImage       a supported format, but broken
    │   ├── UnsupportedImage       not a supported format
    │   ├── ImageTooLarge          more pixels than the limit
    │   └── ImageTooSmall          too small to hold a face
    ├── OutOfMemory                too little memory for the work right now
    ├── DetectorError              a face detector that is unavailable
    ├── ModelError                 a model that fails verification
    ├── AnswerError                an answer that the model cannot give
    │   ├── UnknownAnswer          labels or people, which it lacks
    │   └── UnusablePrior          expected shares that are malformed, or for a model without natural shares
    └── TrainerError               see services/trainer/errors.py

None of them knows HTTP: `services/api/errors.py` maps each to a status.
"""


class MienError(Exception):
    """Any error we expect; its message says what to do about it."""


class ImageError(MienError):
    """The picture is at fault."""


class UndecodableImage(ImageError):
    """A supported format, but empty, truncated or corrupt."""


class UnsupportedImage(ImageError):
    """Not a supported image format."""


class ImageTooLarge(ImageError):
    """More pixels or a longer side than allowed; checked in the header, before decoding."""


class ImageTooSmall(ImageError):
    """A side too short to hold a readable face."""


class OutOfMemory(MienError):
    """There is too little memory for the work right now; the picture is not at fault."""


class DetectorError(MienError):
    """The face detector that was asked for is unavailable."""


class ModelError(MienError):
    """A model directory is incomplete, was modified, or does not do what its manifest says."""


class AnswerError(MienError):
    """An answer that the model cannot give."""


class UnknownAnswer(AnswerError):
    """The model lacks the answer that was asked for."""


class UnusablePrior(AnswerError):
    """A prior that is neither a name nor seven shares, or a model whose manifest has no natural shares."""
