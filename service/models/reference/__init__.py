"""The reference: how a model's own library loads and runs it, in float32. What it answers is right.

dense.py (sentence-transformers, for vectors) · headed.py (transformers, for every other head) ·
inspect.py (what a folder means, in a process of its own).
"""
