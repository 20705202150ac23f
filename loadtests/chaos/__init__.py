"""Faults on purpose: what is injected, what a client may see, and a check of every request.

Reading order: scenario.py (the records) · bench.py (the service under test) · load.py-like modules
of scenarios (load, bad_input, network, worker, host, shutdown) · history.py and invariants.py (what
must hold of every request) · resources.py (of every process) · controls.py (broken on purpose: each
must be caught) · soak.py · report.py.
"""
