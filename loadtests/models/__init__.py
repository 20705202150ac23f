"""Seeded tiny models of many architectures, in folders as their own libraries save them.

tokenizers.py and bodies.py (what a folder is made of) · folders.py (the folder, with odd files).
"""
