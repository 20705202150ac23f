"""This service beside what people would use instead, on one machine, with one model.

Reading order: `options` (what every server is told) · `model` (the forward code that all of them
run) · `handlers/` (one small file a peer, in that peer's best documented way) · `catalogue` (the
peers, their versions and knobs) · `install` (a virtual environment for each) · `serving` (start,
check the answers, stop) · `schedule` (what is measured, in which order) · `measure` · `tables` ·
`command`.

`options`, `model` and `handlers` are imported in the peers' own environments: they may use the
standard library, numpy, and what that peer brings.
"""
