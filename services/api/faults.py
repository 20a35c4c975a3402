"""What can go wrong in the service, beyond what the pipeline raises.

    MienError
    ├── ImageError, ModelError, …   raised by the pipeline, see shared/errors.py
    ├── ServiceError
    │   ├── BadForm                 a body that does not match its Content-Type
    │   ├── Unauthorized            no API key, or a wrong one
    │   ├── SlowUpload              the upload stalled
    │   ├── PayloadTooLarge         more bytes than allowed
    │   ├── UnsupportedForm         a Content-Type that cannot carry the images
    │   ├── MissingImage            a form without the field, JSON without the key
    │   ├── InvalidForm             a form with other fields or more files than allowed
    │   ├── InvalidParameter        query parameters that contradict each other
    │   ├── NotReady                no model can be served
    │   ├── Overloaded              the queue or the upload capacity is full
    │   ├── RateLimited             more requests than allowed in this time
    │   └── TimedOut                the image was not done in time
    └── WorkerFault                 a worker failed at the image; the message is its traceback
        └── WorkerDied              a worker process ended at the image

None of them knows HTTP: errors.py maps each to a status.
"""

from shared.errors import MienError


class ServiceError(MienError):
    """The service cannot answer the request."""


class BadForm(ServiceError):
    """The body does not match its Content-Type."""


class Unauthorized(ServiceError):
    """No API key, or a wrong one."""


class SlowUpload(ServiceError):
    """The upload stalled."""


class PayloadTooLarge(ServiceError):
    """More bytes than allowed."""


class UnsupportedForm(ServiceError):
    """A Content-Type that cannot carry the images."""


class MissingImage(ServiceError):
    """A form without the field, or JSON without the key."""


class InvalidForm(ServiceError):
    """A form with other fields or more files than allowed."""


class InvalidParameter(ServiceError):
    """Query parameters that contradict each other."""


class NotReady(ServiceError):
    """No model can be served, for the reason in the message."""


class Overloaded(ServiceError):
    """The queue or the upload capacity is full."""


class RateLimited(ServiceError):
    """More requests than allowed in this time; `retry_after_s` says when there may be another."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TimedOut(ServiceError):
    """The image was not done in time, waiting and work together."""


class WorkerFault(MienError):
    """A worker failed at the image in a way that we did not expect; the message is its traceback."""


class WorkerDied(WorkerFault):
    """A worker process ended while it worked on the image."""
