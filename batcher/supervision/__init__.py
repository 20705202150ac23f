"""Decides what a failure costs whom. Pure: no lock, no clock, no I/O."""
