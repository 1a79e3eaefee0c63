"""Comparison of an import with a server that received the same events."""
