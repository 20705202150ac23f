"""What is said of a path that no route has: which route was probably meant. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches

from service.api.routes import Route

_LONGEST = 100  # characters of a path that is compared with the routes
_LIKENESS = 0.8
_GENERATION = {"completions", "responses", "generate", "generate_stream", "chat"}


def nearest(path: str, routes: Sequence[Route]) -> list[Route]:
    """Of those with the same end, as where a base URL has a `/v1` too few or too many, the one that
    looks most alike; without any, of all. O(routes), only for what is answered with 404."""
    wanted = _segments(path)
    if not wanted or len(path) > _LONGEST:
        return []
    shared = {each.path: _same_end(wanted, _segments(each.path)) for each in routes}
    if most := max(shared.values()):
        likeness = {path: _likeness(wanted, path) for path in shared if shared[path] == most}
        return [each for each in routes if likeness.get(each.path) == max(likeness.values())]
    spelt = get_close_matches("/" + "/".join(wanted), shared, n=1, cutoff=_LIKENESS)
    return [each for each in routes if each.path in spelt]


def explain(path: str, near: Sequence[Route]) -> str:
    """For the caller."""
    if near:
        meant = " or ".join(f"{each.method} {each.path}" for each in near)
        return f"there is no such route; did you mean {meant}? GET /openapi.json lists all routes"
    if not _GENERATION.isdisjoint(_segments(path)):
        return (
            "there is no such route: models that generate text are not served here."
            " GET /openapi.json lists all routes"
        )
    return "there is no such route; GET /openapi.json lists all routes"


def _segments(path: str) -> list[str]:
    return [each for each in path.lower().split("/") if each]


def _likeness(wanted: Sequence[str], path: str) -> float:
    return SequenceMatcher(None, "/" + "/".join(wanted), path).ratio()


def _same_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last segments are the same."""
    count = 0
    while count < min(len(one), len(other)) and one[-count - 1] == other[-count - 1]:
        count += 1
    return count
