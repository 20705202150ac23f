"""PyTorch as it comes, for the batches that another backend fails at in service; and in its place,
once it keeps failing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from batcher.failures import explain, is_device_lost, is_out_of_memory
from service.models.backends import Answers, Backend, Say
from service.models.rows import is_finite

_MOST_FAILURES = 3  # failures in a row: a lone one may be that of one input, or of a moment
# Seconds that a batch which has failed waits for the other one to load. Not longer: the worker
# would be taken to hang (BATCHER_HANG_AFTER_MS), and the next one had it all before it.
_LOAD_TIMEOUT = 2.0


class Fallback:
    """What neither of the two can answer is the input's own fault, and changes nothing.

    `plain` is opened in a thread of its own when it is first needed, and kept.
    """

    def __init__(self, backend: Backend, plain: Callable[[], Backend], say: Say) -> None:
        self.running = backend  # what is to run the next batch
        self.failures = 0  # of it, in a row, each answered here; its next success sets this to 0
        self._open = plain
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plain")
        self._plain: Future[Backend] | None = None
        self._say = say
        self.failed: dict[str, str] = {}  # why it was replaced, by its name

    def answer(self, run: Callable[[Backend], Answers], failure: Exception) -> Answers:
        """`run`: the batch that `running` has failed at. Raises the failure where it is not its
        own."""
        # Without room, a smaller batch will do; a device that is lost is so for all of them.
        if self.failed or is_out_of_memory(failure) or is_device_lost(failure):
            raise failure
        if self._plain is None:
            self._plain = self._thread.submit(self._open)
        try:
            plain = self._plain.result(_LOAD_TIMEOUT)
            answers = run(plain)
        except Exception as error:  # too late for this batch, or the input's own fault
            if is_device_lost(error):
                raise
            raise failure from error
        if not is_finite(answers):
            raise failure
        self.failures += 1
        if self.failures >= _MOST_FAILURES:
            self._replace(plain, explain(failure))
        return answers

    def close(self) -> None:
        """Of both."""
        self.running.close()
        self._thread.shutdown(wait=True, cancel_futures=True)
        plain = self._plain
        if plain is None or plain.cancelled() or plain.exception() is not None:
            return
        if (unused := plain.result()) is not self.running:
            unused.close()

    def _replace(self, plain: Backend, why: str) -> None:
        failed, self.running = self.running, plain
        self.failed = {failed.name: why}
        self._say(f"backend {failed.name} keeps failing; switching to plain PyTorch: {why}")
        failed.close()
