"""Load tests: drivers, baselines, yardsticks. Nothing here is imported by the service.

Reading order: `arrivals` (when requests are sent) and `workloads` (what they say) feed `openloop`,
the referee, and `closedloop`, which send through `connections`; `outcomes` is what came of it.
`servers` starts what is measured, `compare` and `checks` decide what to measure, `record` and
`report` write it down, `tune` looks for the best settings. `yardstick` says what the best possible
would have been, `lengths` the same of texts of mixed length.

Everything is bounded in count and time, stops by itself, and talks to the loopback only.
"""
