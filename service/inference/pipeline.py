"""From a request's inputs to their vectors: what both embedding protocols share."""

from __future__ import annotations

from dataclasses import dataclass

from batcher import Answer
from service.errors import Header, Problem
from service.http.exchange import Exchange
from service.http.headers import priority, timeout
from service.state import Front, Served
from service.tasks.embed import Vector, vector_of
from service.tasks.input_errors import BadTokenId, InputRefused, TextTooLong
from service.tasks.protocol import Prepared, Preparer
from service.tasks.text_inputs import Input, no_id, whole

_MANY = 32  # inputs; more are tokenised off the event loop, as a long text is
_MANY_IDS = 4096  # token ids, of all inputs together; checking that many takes about 1 ms


@dataclass(slots=True)
class Embedded:
    vectors: list[Vector]
    answers: list[Answer]
    tokens: int
    tokenizing: float  # seconds

    def timing(self, front: Front, exchange: Exchange) -> Header:
        """Call it last: it says what time it is."""
        now = front.clock.now()
        front.lag.observe(self.answers[-1].batch, now)
        total = now - exchange.started
        return (b"server-timing", front.timing.header(self.answers, self.tokenizing, total))


async def embed_text(
    front: Front,
    exchange: Exchange,
    text: str,
    field: str,
    truncate: bool,
    urgency: int | None = None,
) -> Embedded:
    """What embed() does, for one text: the common case, at two thirds of the cost."""
    now = front.clock.now
    deadline = exchange.started + front.lag.off(timeout(exchange.headers, front.request_timeout))
    if urgency is None:
        urgency = priority(exchange.headers)
    served = front.model()
    preparer = served.preparer
    begun = now()
    if preparer.is_long(text):
        exchange.enter("waiting")
        prepared = await front.aside.run(
            deadline, _prepare, served, [text], field, truncate, caller=exchange.caller
        )
        payload, tokens = prepared[0]
    else:
        try:
            payload, tokens = preparer.prepare(text, truncate=truncate)
        except InputRefused as error:
            raise _refused(error, field) from None
    tokenizing = now() - begun
    exchange.enter("waiting")
    answers = await front.client.submit_all(
        (payload,), costs=(tokens,), deadline=deadline, priority=urgency, caller=exchange.caller
    )
    exchange.enter("other")
    return Embedded([vector_of(answers[0].value)], answers, tokens, tokenizing)


async def embed(
    front: Front,
    exchange: Exchange,
    inputs: list[Input],
    field: str,
    truncate: bool,
    urgency: int | None = None,
) -> Embedded:
    """All or none, in order. Raises Problem, or what the engine raises.

    `urgency`: what the body says of it; None: the header tells.
    """
    now = front.clock.now
    deadline = exchange.started + front.lag.off(timeout(exchange.headers, front.request_timeout))
    if urgency is None:
        urgency = priority(exchange.headers)
    served = front.model()
    preparer = served.preparer
    begun = now()
    if _are_long(preparer, inputs):
        exchange.enter("waiting")
        prepared = await front.aside.run(
            deadline, _prepare, served, inputs, field, truncate, caller=exchange.caller
        )
    else:
        prepared = _prepare(served, inputs, field, truncate)
    tokenizing = now() - begun
    costs = [one.tokens for one in prepared]
    exchange.enter("waiting")
    answers = await front.client.submit_all(
        [one.payload for one in prepared],
        costs=costs,
        deadline=deadline,
        priority=urgency,
        caller=exchange.caller,
    )
    exchange.enter("other")
    vectors = [vector_of(answer.value) for answer in answers]
    return Embedded(vectors, answers, sum(costs), tokenizing)


def _are_long(preparer: Preparer, inputs: list[Input]) -> bool:
    if len(inputs) > _MANY:
        return True
    if any(type(one) is str and preparer.is_long(one) for one in inputs):
        return True
    return sum(len(one) for one in inputs if type(one) is list) > _MANY_IDS


def _prepare(served: Served, inputs: list[Input], field: str, truncate: bool) -> list[Prepared]:
    preparer, limit = served.preparer, served.max_length
    prepared: list[Prepared] = []
    try:
        for one in inputs:
            if isinstance(one, str):
                prepared.append(preparer.prepare(one, truncate=truncate))
                continue
            if not truncate and limit is not None and len(one) > limit:  # before a look at each
                raise TextTooLong(len(one), limit, at_least=True)
            prepared.append(_prepare_ids(preparer, one, truncate))
    except InputRefused as error:
        raise _refused(error, f"{field}[{len(prepared)}]" if len(inputs) > 1 else field) from None
    return prepared


def _prepare_ids(preparer: Preparer, ids: list[int], truncate: bool) -> Prepared:
    try:
        return preparer.prepare_ids(ids, truncate=truncate)
    except BadTokenId as error:
        if type(error.value) is not float:
            raise
    # Only now: the common list of ids is not walked over for the rare one that says 7.0.
    return preparer.prepare_ids([whole(value) for value in ids], truncate=truncate)  # type: ignore[misc]  # checked there


def _refused(error: InputRefused, place: str) -> Problem:
    if isinstance(error, BadTokenId) and type(error.value) is not int:
        return no_id(place, error.position, error.value)
    return Problem(422, f"{place}: {error}", param=place)
