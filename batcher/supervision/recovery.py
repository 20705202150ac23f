"""What becomes of a batch that failed, and of each request in it. Pure: the batching thread acts.

| what happened              | the batch | a request in it                                       |
| -------------------------- | --------- | ----------------------------------------------------- |
| it raised, or ran out of   | of one    | fails with the model's own words                      |
| memory                     | of more   | runs again at once, in the half it is in              |
| the worker was lost: died, | any       | for the 1st time: first in the queue, with its mates  |
| hung, or sent garbage      |           | for the 2nd time: first in the queue, to run alone    |
|                            |           | for the 3rd time: fails as poison, and is quarantined |
| the same, at the very end  | any       | fails: the service has shut down                      |

Nobody runs again whose deadline has passed or whose caller has gone. One culprit among b costs
2·log2(b) extra runs if it raises, and two extra workers if it kills.
"""

from __future__ import annotations

import enum

from batcher.errors import BatcherError, WorkerLost
from batcher.scheduling.cost import CostModel

ALONE, LOSSES_OF_A_CULPRIT = 2, 3  # workers lost with a request aboard

_TIMES_PREDICTED = 10.0
_TIMES_PROPORTIONAL = 2.0
_COLD = 300.0  # seconds


class Step(enum.Enum):
    FAIL = "its requests get the error"
    HALVE = "it runs again at once, in halves"
    REQUEUE = "its requests go back to the front of the queue"


def next_step(error: BatcherError, size: int, closing: bool) -> Step:
    if isinstance(error, WorkerLost):
        return Step.FAIL if closing else Step.REQUEUE
    return Step.HALVE if size > 1 else Step.FAIL


def runs_alone(losses: int) -> bool:
    """After so many workers lost, may a request have company?"""
    return losses >= ALONE


def is_poison(losses: int) -> bool:
    return losses >= LOSSES_OF_A_CULPRIT


def patience(cost: CostModel, size: int, tokens: int, floor: float) -> float:
    """Seconds after which a batch is taken to hang: never less than `floor`.

    A batch larger than any before is given twice what it would take if time grew with its tokens
    or its requests, whichever is more of them.
    """
    if not cost.observations:
        return max(floor, _COLD)
    predicted = _TIMES_PREDICTED * cost.predict(size, tokens)
    return max(floor, predicted, _TIMES_PROPORTIONAL * cost.proportional(size, tokens))
