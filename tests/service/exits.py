"""A script: it ends where it is imported."""

raise SystemExit("usage: exits.py FILE")
