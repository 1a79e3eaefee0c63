"""Readers of raw logs: each reads one kind of log as a `RawLog`."""
