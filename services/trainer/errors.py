"""What can go wrong in the trainer.

    TrainerError
    ├── ConfigError          a configuration that cannot be meant
    ├── DataError            a source or data file that cannot be used
    ├── WorkdirError         a work directory of another run
    ├── TrainingDiverged     the loss is no longer a number
    └── ExportRefused        the exported model does not do what the trained one does

The command line prints the message and leaves with status 2.
"""

from shared.errors import MienError


class TrainerError(MienError):
    """Anything that the trainer foresees."""


class ConfigError(TrainerError):
    """A configuration file that is missing, has unknown keys or values out of range."""


class DataError(TrainerError):
    """A source of images or a data file that is missing, empty, of another version or damaged."""


class WorkdirError(TrainerError):
    """A work directory that holds another run, or none."""


class TrainingDiverged(TrainerError):
    """The loss became NaN or infinite; the last good epoch is kept."""


class ExportRefused(TrainerError):
    """The exported model differs from the trained one, or is worse than allowed; nothing was written."""
