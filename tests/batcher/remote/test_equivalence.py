"""The two clients of the engine: what one takes the other takes, and it arrives as the same."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from batcher.client import Client, LocalClient
from batcher.clock import MonotonicClock
from batcher.collector import Collector
from batcher.errors import InvalidPayload, RunnerFailed
from batcher.limits import Limits
from batcher.remote.client import RemoteClient
from batcher.remote.server import FrontendSession
from batcher.request import Batch
from batcher.runner import RunnerInfo
from tests.batcher.conftest import examples
from tests.batcher.remote.plain_values import is_same, plain_values
from tests.batcher.test_plain_data import PLAIN, REFUSED
from tests.fakes import payloads_of, run_async


class Site:
    """A collector, whose batches the test takes, and both of its clients."""

    def __init__(self) -> None:
        self.collector = Collector(Limits(share_equal=False), MonotonicClock())
        self.collector.replica_up(0, RunnerInfo())
        self.local = LocalClient(self.collector, asyncio.get_running_loop(), 60.0)
        self.remote = RemoteClient(self.collector.clock, 60.0)
        self.session = FrontendSession(self.collector, "frontend-0")

    async def __aenter__(self) -> Site:
        ours, theirs = socket.socketpair()
        await asyncio.gather(self.session.attach(ours), self.remote.attach(theirs))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.remote.close()
        await self.session.close()

    async def batch(self) -> Batch:
        while not self.collector.snapshot().waiting:  # noqa: ASYNC110  the loop turns
            await asyncio.sleep(0)
        batch = self.collector.next_batch(0)
        assert batch is not None
        return batch

    async def carry(self, client: Client, payloads: list[Any], results: list[Any]) -> Any:
        """What arrives of each."""
        asking = asyncio.ensure_future(client.submit_all(payloads))
        batch = await self.batch()
        self.collector.settle(batch, results, seconds=0.1)
        answers = await asking
        return payloads_of(batch), [answer.value for answer in answers]

    async def failures(self, client: Client, payload: Any) -> tuple[str, str]:
        """Of one as a payload, and as a result."""
        with pytest.raises(InvalidPayload) as at_submit:
            await client.submit_all(["fine", payload])
        assert self.collector.snapshot().waiting == 0
        with pytest.raises(RunnerFailed) as at_the_end:
            await self.carry(client, ["text"], [payload])
        return str(at_submit.value), str(at_the_end.value)


@given(plain_values, plain_values, plain_values)
@examples(60)
def test_plain_data_arrives_as_it_was_through_either_client(one: Any, two: Any, more: Any) -> None:
    async def main() -> None:
        async with Site() as site:
            for client in (site.local, site.remote):
                payloads, values = await site.carry(client, [one, two], [two, more])
                assert is_same(payloads, [one, two])
                assert is_same(values, [two, more])

    run_async(main())


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_each_kind_arrives_as_it_was(value: Any) -> None:
    async def main() -> None:
        async with Site() as site:
            for client in (site.local, site.remote):
                payloads, values = await site.carry(client, [value], [value])
                assert is_same(payloads, [value])
                assert is_same(values, [value])

    run_async(main())


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=lambda each: type(each).__name__)
def test_both_refuse_the_same_payloads_and_results_with_the_same_words(
    value: Any, says: str
) -> None:
    async def main() -> None:
        async with Site() as site:
            of_local = await site.failures(site.local, value)
            assert of_local == await site.failures(site.remote, value)
            assert of_local[0].startswith("the input cannot be submitted: ")
            assert of_local[1].startswith("the result cannot be returned: ")

    run_async(main())


def test_a_result_that_cannot_be_returned_fails_no_other_call_of_its_batch() -> None:
    async def main() -> None:
        async with Site() as site:
            for client in (site.local, site.remote):
                bad, good = (asyncio.ensure_future(client.submit(text)) for text in "ab")
                while site.collector.snapshot().waiting < 2:  # noqa: ASYNC110  the loop turns
                    await asyncio.sleep(0)
                site.collector.settle(await site.batch(), [object(), "B"], seconds=0.1)
                with pytest.raises(RunnerFailed, match=r"type builtins\.object"):
                    await bad
                assert await good == "B"

    run_async(main())


def test_what_a_runner_gets_can_be_written_to() -> None:
    async def main() -> None:
        async with Site() as site:
            ids, image = np.arange(4), np.ones((2, 2), np.float32)
            for client in (site.local, site.remote):
                payloads, values = await site.carry(client, [ids, {"image": image}], [ids, image])
                payloads[0] += 1
                payloads[1]["image"] += 1
                values[1] += 1

    run_async(main())
