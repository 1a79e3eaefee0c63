"""Logs as flat arrays: events in time order, windows, request points and split."""
