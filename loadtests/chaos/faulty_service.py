"""A small service that answers rightly until it is asked to lie: does the checker notice?

`python -m loadtests.chaos.faulty_service PORT LIE`. A request whose text begins with `lie` sets the
lie off.
"""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections import Counter

from service.models.simulated import answers

LIES = {
    "honest": "nothing: the checker must find nothing",
    "spared": "nothing, and the drill of the scenario does nothing to it",
    "swaps": "every tenth answer is the answer to the request before it",
    "forgets": "every twentieth request is never answered",
    "hangs-up": "every twentieth connection is closed without an answer",
    "blames": "every twentieth request gets 500 for what it did not do",
    "refuses-rudely": "every twentieth request gets 429 without Retry-After",
    "mumbles": "every twentieth request gets an error that is not JSON",
    "miscounts": "one request more is counted as accepted than ever ended",
    "counts-twice": "every answer is counted twice",
    "leaks-descriptors": "every request leaves a descriptor open",
    "leaks-memory": "every request leaves a MiB behind",
    "leaves-zombies": "a child that ended is never waited for",
    "poses": "the worker hangs, and /health/ready goes on saying 200",
    "slows-down": "every answer takes 50 ms more from then on",
}
EVERY = 20
EMBED = "/embed"


class FaultyService:
    def __init__(self, lie: str) -> None:
        self._lie = lie
        self._lied = 0  # Requests that asked for it.
        self._numbers = itertools.count(1)
        self._ended: Counter[str] = Counter()
        self._before = ""
        self._kept: list[object] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                lengths = [
                    line.split(":")[1] for line in lines if line.lower().startswith("content-len")
                ]
                body = await reader.readexactly(int(lengths[0])) if lengths else b""
                answer = await self._answer(lines[0].split()[1], body)
                if not answer:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # The client has gone; the connection is closed below.
        finally:
            writer.close()

    async def _answer(self, path: str, body: bytes) -> bytes:
        if path == "/metrics":
            return self._page(200, self._metrics().encode())
        if path == "/stats":
            return self._page(200, b'{"replicas": []}')
        if path != EMBED:
            return self._page(200, b"{}")
        text = json.loads(body)["inputs"]
        self._lied += text.startswith("lie")
        return await self._embed(text)

    async def _embed(self, text: str) -> bytes:
        lie, due = self._lie if self._lied else "honest", self._lied % EVERY == EVERY - 1
        if lie == "poses" or (lie == "forgets" and due):
            await asyncio.sleep(30)
            return b""
        if lie == "leaks-descriptors":
            self._kept.append(os.open(os.devnull, os.O_RDONLY))
        if lie == "leaks-memory":
            self._kept.append(b"x" * 2**20)
        if lie == "leaves-zombies" and self._lied == 1:
            self._kept.append(subprocess.Popen(["true"]))  # noqa: ASYNC220  it is the lie
        await asyncio.sleep(0.052 if lie == "slows-down" else 0.002)
        if due and lie == "hangs-up":
            return b""
        if due and lie in ("blames", "refuses-rudely", "mumbles"):
            status, outcome = (500, "failed") if lie == "blames" else (429, "overloaded")
            self._ended[outcome] += 1
            extra = "retry-after: 1\r\n" if lie == "mumbles" else ""
            return self._page(status, b"oops" if lie == "mumbles" else None, extra)
        swapped = self._before if lie == "swaps" and self._lied % 10 == 9 else text
        self._before = text
        self._ended["ok"] += 2 if lie == "counts-twice" else 1
        return self._page(200, json.dumps(answers([swapped]).tolist()).encode())

    def _page(self, status: int, body: bytes | None, extra: str = "") -> bytes:
        name = f"liar-{next(self._numbers)}"
        content = (
            json.dumps({"error": "a lie", "request_id": name}).encode() if body is None else body
        )
        return (
            f"HTTP/1.1 {status} Said\r\nx-request-id: {name}\r\n{extra}"
            f"content-length: {len(content)}\r\n\r\n"
        ).encode() + content

    def _metrics(self) -> str:
        ended = self._ended.total()
        if self._lie == "counts-twice":
            ended = self._ended["ok"]
        accepted = ended + (self._lie == "miscounts" and self._lied > 0)
        lines = [
            f"batcher_inputs_accepted_total {accepted}",
            f'batcher_inputs_total{{outcome="ok"}} {ended}',
            "batcher_queue_depth 0",
            "batcher_inputs_running 0",
        ]
        lines += [
            f'batcher_requests_total{{outcome="{outcome}",route="{EMBED}"}} {count}'
            for outcome, count in self._ended.items()
        ]
        return "\n".join(lines) + "\n"


async def main(port: int, lie: str) -> None:
    server = await asyncio.start_server(FaultyService(lie).serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
