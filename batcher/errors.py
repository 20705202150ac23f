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


class CallTooLarge(BatcherError):
    """A call of more requests, or tokens, than may ever wait. Nothing was queued."""


class NeverInTime(BatcherError):
    """A call of so many requests would miss its deadline even on an idle engine. Nothing was
    queued, and the same call is refused again."""


class NotReady(Refused):
    """No replica is up: the model is still loading, or every worker is being restarted."""


class Draining(Refused):
    """The engine is shutting down and takes no new work."""


class DeadlineExceeded(BatcherError):
    """The request's deadline passed before its answer was there."""


class Cancelled(BatcherError):
    """The caller went away."""


class InvalidPayload(BatcherError):
    """The payload is not plain data, so it cannot be submitted. Nothing was queued."""


class BadInput(BatcherError):
    """Raised by a model of the user's own: this input is at fault, not the model."""


class RunnerFailed(BatcherError):
    """The model raised on this input, or could not be loaded. The text is the model's own."""


class OutOfMemory(RunnerFailed):
    """The device has no room for this batch; for one of a single request, not even for that."""


class PoisonRequest(BatcherError):
    """One worker after another was lost with this request aboard, the last with it alone.

    The same payload is refused with this for a while: it must not walk through every device.
    """


class WorkerLost(BatcherError):
    """The worker died, hung or sent garbage. What was aboard may be innocent, and runs again."""
