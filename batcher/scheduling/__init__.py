"""Decides who runs when. Pure: no lock, no clock, no I/O; time is handed in."""
