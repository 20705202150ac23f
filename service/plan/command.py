"""python -m service plan. Owns what is printed where, and the exit codes."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

from batcher.limits import Limits
from batcher.scheduling.replica_model import MOST_TOKENS, ReplicaModel
from service.plan import plot as figure
from service.plan import report
from service.plan.batch_time import Device, Measured, NoSpeed, find_device
from service.plan.flags import Asked, BadFlag, ask
from service.plan.search import SLICE, CannotBeKept, Goal, Planner
from service.plan.traffic import Lengths, Traffic
from service.processes.exit_codes import BAD_SETTING
from service.settings import BadSetting

OK, NOT_KEPT = 0, 1
SIZES = (1, 4, 16, 32, 64, 128, 256)
# Tokens of a batch that are tried beside the starting point.
BUDGETS = (MOST_TOKENS, 8192, 4096, 2048)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    try:
        asked = ask(arguments)
        if asked.plot is not None:
            figure.check()
        device = find_device(asked.settings, asked.by_hand)
    except (BadFlag, BadSetting, NoSpeed, figure.NoMatplotlib) as error:
        print(f"batcher: {error}", file=sys.stderr)
        return BAD_SETTING
    lengths = asked.lengths or Lengths.fixed(device.middle)
    traffic = Traffic(lengths, asked.deadline, asked.seed, asked.gaps)
    planner = Planner(_goal(asked), traffic, device, _tell, SLICE)
    start = asked.settings.limits
    try:
        plan = planner.plan(start, _sizes(asked, start, device), _budgets(asked, start, device))
    except CannotBeKept as error:
        if asked.as_json:
            print(json.dumps({"kept": False, "reason": str(error)}, indent=2))
        else:
            print(f"No plan: {error}.")
        return NOT_KEPT
    if asked.as_json:
        print(json.dumps(report.as_dict(plan, traffic, device), indent=2))
    else:
        print(report.as_text(plan, traffic, device))
    if asked.plot is not None:
        _tell("the plot")
        try:
            figure.draw(asked.plot, plan, planner.curve(plan.fleet))
        except OSError as error:
            print(f"batcher: --plot {asked.plot}: {error.strerror}", file=sys.stderr)
            return BAD_SETTING
    return OK if plan.kept else NOT_KEPT


def _goal(asked: Asked) -> Goal:
    return Goal(
        rate=asked.rate,
        p95=asked.p95,
        handoff=asked.handoff,
        overhead=asked.overhead,
        seconds=asked.seconds,
        per_machine=asked.per_machine,
        replicas=asked.replicas,
        devices=asked.devices,
    )


def _sizes(asked: Asked, start: Limits, device: Device) -> tuple[int, ...]:
    """From the starting point on, up to what was measured: beyond it nothing is known."""
    if asked.max_batch_size is not None:
        return (asked.max_batch_size,)
    most = device.largest if isinstance(device, Measured) else max(SIZES)
    if "max_batch_size" in asked.settings.model_fields_set:  # by the environment
        most = min(most, start.max_batch_size)
    first = min(start.max_batch_size, most)
    larger = [size for size in SIZES if first < size <= most]
    smaller = [size for size in reversed(SIZES) if size < first]
    return (first, *larger, *smaller)


def _budgets(asked: Asked, start: Limits, device: Device) -> tuple[int, ...]:
    if asked.max_batch_tokens is not None:
        return (asked.max_batch_tokens,)
    limits = dataclasses.replace(start, max_batch_tokens=asked.settings.max_batch_tokens)
    replica = ReplicaModel(limits)
    # When a replica comes up the service learns its budget.
    replica.came_up(device.points, device.padding_free)
    first = replica.max_batch_tokens
    return (first, *(tokens for tokens in BUDGETS if tokens != first))


def _tell(progress: str) -> None:
    print(f"planning: {progress}", file=sys.stderr, flush=True)
