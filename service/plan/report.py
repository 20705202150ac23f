"""The answer: a short table and a sentence for people, the same figures for machines."""

from __future__ import annotations

import math
from typing import Any

from service.plan.batch_time import Device
from service.plan.search import LOST, STABLE, TIGHT, Plan
from service.plan.traffic import Traffic
from service.plan.units import a_second, ms, replicas_of, seconds_of


def variables(plan: Plan) -> dict[str, str]:
    """The environment to start the service of each machine with."""
    return {
        "BATCHER_REPLICAS": str(math.ceil(plan.fleet.replicas / plan.goal.devices)),  # of each
        "BATCHER_MAX_BATCH_SIZE": str(plan.fleet.limits.max_batch_size),
        "BATCHER_MAX_BATCH_TOKENS": str(plan.fleet.limits.max_batch_tokens),
    }


def as_dict(plan: Plan, traffic: Traffic, device: Device) -> dict[str, Any]:
    """Latencies are what a client sees; null: 1 % or more got no answer."""
    final = plan.final
    return {
        "rate": plan.goal.rate,
        "target_p95_ms": plan.goal.p95 * 1e3,
        "kept": plan.kept,
        "replicas": plan.fleet.total,
        "machines": plan.fleet.machines,
        "replicas_of_each_machine": plan.fleet.replicas,
        "max_batch_size": plan.fleet.limits.max_batch_size,
        "max_batch_tokens": plan.fleet.limits.max_batch_tokens,
        "p50_ms": _finite(final.p50),
        "p95_ms": _finite(final.p95),
        "p99_ms": _finite(final.p99),
        "utilisation": plan.utilisation,
        "busy": final.busy,
        "mean_batch": final.mean_batch,
        "lost_share": final.lost,
        "rate_within_target": plan.within,
        "rate_breaks": plan.breaks,
        "environment": variables(plan),
        "handoff_ms": plan.goal.handoff * 1e3,
        "overhead_ms": plan.goal.overhead * 1e3,
        "lengths": traffic.lengths.name,
        "speed": device.source,
        "simulated_requests": final.requests,
        "simulated_seconds": final.seconds,
    }


def as_text(plan: Plan, traffic: Traffic, device: Device) -> str:
    final, goal = plan.final, plan.goal
    of_each = (
        f" ({plan.fleet.machines:,} machines of {plan.fleet.replicas})"
        if plan.fleet.machines > 1
        else ""
    )
    arrivals = "recorded arrivals" if traffic.gaps else "Poisson arrivals"
    rows = {
        "traffic": f"{a_second(goal.rate)}, {arrivals}, {traffic.lengths.name} tokens,"
        f" p95 within {ms(goal.p95)}",
        "speed": f"{device.source}: {_speed(device, plan.fleet.limits.max_batch_size)}",
        "replicas": f"{plan.fleet.total:,}{of_each}",
        "batches": f"up to {plan.fleet.limits.max_batch_size} requests or"
        f" {plan.fleet.limits.max_batch_tokens} tokens; {final.mean_batch:.1f} requests on average",
        "latency": f"p50 {ms(final.p50)}, p95 {ms(final.p95)}, p99 {ms(final.p99)}"
        f" ({ms(goal.outside)} of it outside the model)",
        "utilisation": f"{plan.utilisation:.0%} of what the replicas can do with full batches;"
        f" busy {final.busy:.0%} of the time",
        "lost": f"{final.lost:.2%} refused or dropped" if final.lost else "",
        "breaks": f"{_reach(plan)}; the queue grows from {a_second(plan.breaks)}",
        "simulated": f"{final.requests:,} requests, {seconds_of(final.seconds)}"
        + (" of one machine's share" if plan.fleet.machines > 1 else ""),
    }
    table = "\n".join(f"  {name:<12} {text}" for name, text in rows.items() if text)
    exports = "\n".join(f"  export {name}={value}" for name, value in variables(plan).items())
    return f"{table}\n\n{advice(plan)}\n\n{exports}"


def advice(plan: Plan) -> str:
    if not plan.kept:
        return _shortfall(plan)
    goal, fleet = plan.goal, plan.fleet
    room = plan.within / goal.rate - 1.0
    told = (
        f"Run {replicas_of(fleet.total)}: p95 is {ms(plan.final.p95)} at"
        f" {plan.utilisation:.0%} utilisation, and there is room for {room:.0%} more traffic."
    )
    if room < TIGHT:
        told += (
            " That is tight: plan with a higher --rate to have room for growth or a lost machine."
        )
    if fleet.machines > 1:
        told += (
            f" One machine with {replicas_of(fleet.replicas)} was simulated at its share of the"
            f" traffic, {a_second(goal.rate / fleet.machines)}, and multiplied by"
            f" {fleet.machines:,}. That holds if the load balancer spreads requests evenly."
        )
    return told


def _shortfall(plan: Plan) -> str:
    goal, final = plan.goal, plan.final
    if goal.rate >= plan.breaks:
        why = f"{a_second(goal.rate)} is more than the {a_second(plan.breaks)} that fits"
    elif final.lost > LOST:
        why = f"{final.lost:.1%} of the requests get no answer in time"
    else:
        why = f"p95 is {ms(final.p95)}"
    told = f"{ms(goal.p95)} is not kept with {replicas_of(plan.fleet.total)}: {why}."
    if plan.within:
        told += f" It is kept up to {a_second(plan.within)}."
    return told + (
        " Without --replicas, plan says how many replicas keep it." if goal.replicas else ""
    )


def _reach(plan: Plan) -> str:
    told = f"p95 within {ms(plan.goal.p95)} up to {a_second(plan.within)}"
    at = plan.within / plan.breaks
    return told + (f" ({at:.0%} utilisation: no plan goes higher)" if at >= STABLE - 0.01 else "")


def _speed(device: Device, size: int) -> str:
    length = device.middle
    alone, full = (device.seconds(n, n * length) for n in (1, size))
    return f"1 request of {length} tokens {ms(alone)}, {size} of them {ms(full)}"


def _finite(seconds: float) -> float | None:
    return seconds * 1e3 if math.isfinite(seconds) else None
