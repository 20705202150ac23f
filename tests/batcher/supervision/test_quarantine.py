"""What has killed worker after worker is refused, for a while, and by its fingerprint only."""

from __future__ import annotations

import numpy as np

from batcher.supervision.quarantine import Quarantine, fingerprint


def test_equal_payloads_have_one_fingerprint_and_others_another() -> None:
    ids = np.arange(3, dtype=np.int32)
    assert fingerprint("poi" + "son") == fingerprint("poison") != fingerprint("Poison")
    assert fingerprint(ids) == fingerprint(ids.copy()) != fingerprint(ids + 1)
    assert "poison" not in str(fingerprint("poison"))


def test_what_does_not_pickle_has_none_and_is_never_held() -> None:
    assert fingerprint(lambda: None) is None
    assert not Quarantine().holds(None, now=0.0)


def test_it_is_held_for_ten_minutes() -> None:
    held = Quarantine()
    held.add("a", now=0.0)
    assert held.holds("a", now=599.0)
    assert not held.holds("a", now=600.0)
    assert not held.holds("b", now=0.0)
    held.release_expired(now=600.0)
    assert len(held) == 0


def test_one_that_comes_again_is_held_from_then() -> None:
    held = Quarantine()
    held.add("a", now=0.0)
    held.add("b", now=100.0)
    held.add("a", now=200.0)
    held.release_expired(now=650.0)
    assert held.holds("a", now=650.0)
    held.release_expired(now=700.0)
    assert (held.holds("a", now=700.0), held.holds("b", now=700.0)) == (True, False)


def test_it_keeps_the_latest_thousand_or_so() -> None:
    held = Quarantine()
    for number in range(2_000):
        held.add(str(number), now=0.0)
    assert len(held) == 1_024
    assert held.holds("1999", now=1.0)
    assert not held.holds("0", now=1.0)
