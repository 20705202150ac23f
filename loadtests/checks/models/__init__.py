"""Any model, right or refused: seeded tiny models of every kind, with odd but legal files, served
over HTTP and compared with the reference library.

tokenizers.py and bodies.py (what a folder is made of) · folders.py (the folder) · draws.py (legal
combinations, at random) · served.py (one service in this process) · judge.py (both answers).
"""
