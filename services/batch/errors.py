"""What can go wrong with an archive.

    MienError
    ├── BatchError                 the job as a whole cannot go on: one line, exit status 2
    │   ├── InputError             there is nothing to score, or it cannot be listed
    │   ├── OutputError            the output cannot be written, or belongs to another job
    │   └── ClusterError           the Ray cluster is unreachable, or lost its workers
    └── SourceError                one file is at fault: a row with an error code, and the job goes on
        ├── UnreadableFile         missing, or not permitted
        │   └── UnreachableFile    the object store or the network failed: the next run tries again
        ├── PayloadTooLarge        more bytes than a photo may have
        ├── UndecodableVideo       not a film, or damaged
        ├── VideoCutShort          a film that ends before its header says
        └── UnreadableArchive      not a tar file, or cut short

A row's code is the class in snake case, which is also how the API writes the codes of an image's errors.
"""

import re

from shared.errors import ImageError, MienError, OutOfMemory


class BatchError(MienError):
    """The job as a whole cannot go on; the message says what to do about it."""


class InputError(BatchError):
    """There is nothing to score, or it cannot be listed."""


class OutputError(BatchError):
    """The output cannot be written, or belongs to another job."""


class ClusterError(BatchError):
    """The Ray cluster is unreachable, or lost its workers."""


class SourceError(MienError):
    """One file is at fault."""


class UnreadableFile(SourceError):
    """Missing, or not permitted."""


class UnreachableFile(UnreadableFile):
    """The object store or the network failed: the next run tries again."""


class PayloadTooLarge(SourceError):
    """More bytes than a photo may have."""


class UndecodableVideo(SourceError):
    """Not a film, or damaged."""


class VideoCutShort(SourceError):
    """A film that ends before its header says."""


class UnreadableArchive(SourceError):
    """Not a tar file, or cut short."""


def code_of(error: Exception) -> str:
    """The code of an error row: that of the nearest kind named above or in shared/errors.py, else `internal`."""
    kinds = (kind for kind in type(error).__mro__ if {ImageError, SourceError} & set(kind.__bases__))
    kind = OutOfMemory if isinstance(error, OutOfMemory) else next(kinds, None)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() if kind else "internal"
