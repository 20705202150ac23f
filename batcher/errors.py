"""Every way to end without a result. Owns the names; the HTTP layer owns the statuses."""

from __future__ import annotations


class BatcherError(Exception):
    """Root of the tree. The text is meant for the caller who gets it."""


class Refused(BatcherError):
    """Not accepted: nothing was queued and nothing changed. Come back in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[Refused], tuple[str, float]]:
        # Exceptions pickle the arguments of Exception, which here is one too few.
        return type(self), (str(self), self.retry_after)


class Overloaded(Refused):
    """No room for this request at present."""


class NotReady(Refused):
    """No replica is up: the model is still loading, or every worker is being restarted."""


class Draining(Refused):
    """The engine is shutting down and takes no new work."""


class DeadlineExceeded(BatcherError):
    """The request's deadline passed before its answer was there."""


class Cancelled(BatcherError):
    """The caller went away."""


class RunnerFailed(BatcherError):
    """The model raised on this input, or could not be loaded. The text is the model's own."""


class WorkerLost(BatcherError):
    """The worker process died with this request aboard. The request itself may be innocent."""
