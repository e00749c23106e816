"""Runs and their steps: the rows, their states, and the lock of a thread."""
