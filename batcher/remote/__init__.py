"""Reaches the engine from another process, over one socket."""
