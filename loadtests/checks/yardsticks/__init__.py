"""How near the best possible: Y1 to Y9, each an ideal that can be computed and what was measured.

`bench` runs the service on the simulated accelerator and keeps what it measured; `queueing` (Y1 to
Y4), `closed` and `linger` (Y5), `replicas` (Y7) and `policies` (the baselines) judge it;
`borrowed` takes Y6, Y8 and Y9 from the checks. `command` is the command line.
"""
