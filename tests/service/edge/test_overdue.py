from __future__ import annotations

import asyncio

from service.edge.overdue import Overdue
from tests.service.loopback import run


def test_each_expires_in_its_turn_and_none_that_was_removed() -> None:
    async def test() -> None:
        done = asyncio.Event()
        expired: list[str] = []

        def expire(name: str) -> None:
            expired.append(name)
            if name == "second":
                done.set()

        waiting: Overdue[str] = Overdue(0.02, expire)
        waiting.add("first")
        waiting.add("removed")
        waiting.remove("removed")
        await asyncio.sleep(0.01)  # half of its time
        waiting.add("second")
        await done.wait()
        assert expired == ["first", "second"]
        assert len(waiting) == 0
        assert waiting.oldest() is None

    run(test())
