"""What becomes of a batch that failed, and of each request in it. Pure: the batching thread acts.

| what happened              | the batch | a request in it                                       |
| -------------------------- | --------- | ----------------------------------------------------- |
| it raised, or ran out of   | of one    | fails with the model's own words                      |
| memory                     | of more   | runs again at once, in the half it is in              |
| the worker was lost: died, | any       | for the 1st time: first in the queue, with its mates  |
| hung, or sent garbage      |           | for the 2nd time: first in the queue, to run alone    |
|                            |           | for the 3rd time: fails as poison, and is quarantined |
| the same, at the very end  | any       | fails: the service has shut down                      |

A request whose deadline has passed or whose caller has gone does not run again. One culprit among b
costs 2·log2(b) extra runs if it raises, and two extra workers if it kills.
"""

from __future__ import annotations

import enum

from batcher.errors import BatcherError, WorkerLost
from batcher.scheduling.cost import CostModel

_TIMES_PREDICTED = 10.0
_TIMES_PROPORTIONAL = 2.0
_COLD = 300.0  # seconds, before the first observation


class Step(enum.Enum):
    FAIL = "its requests get the error"
    HALVE = "it runs again at once, in halves"
    REQUEUE = "its requests go back to the front of the queue"


def next_step(error: BatcherError, size: int, closing: bool) -> Step:
    if isinstance(error, WorkerLost):
        return Step.FAIL if closing else Step.REQUEUE
    return Step.HALVE if size > 1 else Step.FAIL


def hang_timeout(cost: CostModel, size: int, tokens: int, minimum: float) -> float:
    """Seconds after which a batch is taken to hang; at least `minimum`.

    A batch larger than any before gets twice the time it would take if time grew with its tokens or
    its requests, whichever is more of them.
    """
    if not cost.observations:
        return max(minimum, _COLD)
    predicted = _TIMES_PREDICTED * cost.predict(size, tokens)
    return max(minimum, predicted, _TIMES_PROPORTIONAL * cost.proportional(size, tokens))
