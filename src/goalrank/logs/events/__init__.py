"""A log as flat arrays: events in time order, windows, request points, split."""
