"""What can go wrong on the way from bytes to emotions.

    MienError
    ├── ImageError                 the picture is at fault
    │   ├── UndecodableImage       of a kind we read, but broken
    │   ├── UnsupportedImage       not a kind we read
    │   ├── ImageTooLarge          more pixels than the limit
    │   └── ImageTooSmall          fewer pixels than a face needs
    ├── DetectorError              a face detector that cannot be had
    ├── ModelError                 a model directory that must not be served
    └── TrainerError               see services/trainer/errors.py

None of them knows HTTP: `services/api/errors.py` gives each its status.
"""


class MienError(Exception):
    """Anything that we foresee; its message says what to do about it."""


class ImageError(MienError):
    """The picture is at fault."""


class UndecodableImage(ImageError):
    """Of a kind we read, but empty, cut short or corrupt."""


class UnsupportedImage(ImageError):
    """Not a kind of image that we read."""


class ImageTooLarge(ImageError):
    """More pixels, or a longer side, than the limits allow; known from the header, before decoding."""


class ImageTooSmall(ImageError):
    """A side shorter than the smallest face that can be read."""


class DetectorError(MienError):
    """A face detector that was asked for cannot be had."""


class ModelError(MienError):
    """A model directory is incomplete, was changed, or does not do what its manifest says."""
