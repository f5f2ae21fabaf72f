"""Planted faults: each breaks a healthy run in one place. `python -m tests.faults` prints the whole table."""
