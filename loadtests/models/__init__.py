"""Seeded tiny models of many architectures, in folders as their own libraries save them.

folder.py (what its files say) · tokenizers.py, bodies.py (what it is made of) · vision.py (models
that see) · folders.py (the folder) · own.py (a runner).
"""
