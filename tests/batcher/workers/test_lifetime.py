"""What a parent learns of the end of a child. The child's side: see workers/test_process.py."""

from __future__ import annotations

import multiprocessing
import os
import select

import pytest

from batcher.workers.lifetime import describe_exit, exit_descriptor
from tests.fakes import PATIENCE


def test_an_exit_is_described_by_signal_or_code() -> None:
    assert describe_exit(-11) == "signal 11"
    assert describe_exit(3) == "exit code 3"


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_the_descriptor_is_readable_once_the_child_has_ended(
    has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(3,))
    process.start()
    ended = exit_descriptor(process)
    assert select.select([ended], (), (), PATIENCE)[0] == [ended]
    os.close(ended)  # the caller's own, in either case
    process.join()
    assert process.exitcode == 3
    process.close()
