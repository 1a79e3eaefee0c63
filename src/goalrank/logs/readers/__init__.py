"""Readers: each turns one kind of raw log into a `RawLog`."""
