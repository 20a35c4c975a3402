"""What can go wrong in the trainer.

    TrainerError
    ├── ConfigError          a configuration with errors
    ├── DataError            an unusable source or data file
    ├── WorkdirError         a work directory of another run
    ├── TrainingDiverged     the loss became NaN or infinite
    ├── TrainingInterrupted  a process that makes batches died
    └── ExportRefused        the exported model fails verification

The command line prints the message and leaves with status 2.
"""

from shared.errors import MienError


class TrainerError(MienError):
    """Any error the trainer expects."""


class ConfigError(TrainerError):
    """A configuration file that is missing, has unknown keys or values out of range."""


class DataError(TrainerError):
    """A source of images or a data file that is missing, empty, of another version or damaged."""


class WorkdirError(TrainerError):
    """A work directory that holds another run, or none."""


class TrainingDiverged(TrainerError):
    """The loss became NaN or infinite; the last good epoch is kept."""


class TrainingInterrupted(TrainerError):
    """A process that makes batches died; the last complete epoch is kept."""


class ExportRefused(TrainerError):
    """The exported model differs from the trained one, or is worse than allowed; nothing was written."""
