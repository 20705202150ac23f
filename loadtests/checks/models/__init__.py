"""Any model, right or refused: tiny models (loadtests/models/) with odd but legal files, served
over HTTP and compared with the reference library.

sweep.py and draws.py (which models) · served.py (one service in this process) · judge.py (both
answers) · trial.py (one model, tried) · check.py (all of them).
"""
