"""Any model, right or refused: tiny models (loadtests/models/) with odd but legal files, served
over HTTP and compared with the reference library.

sweep.py and draws.py (which models) · case.py (one of them) · served.py (one service in this
process) · judge.py (both answers: vectors.py, classifiers.py, images.py) · trial.py (one model,
tried) · check.py (all of them).
"""
