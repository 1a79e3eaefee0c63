"""Intervals and tests over requests, users and seeds."""
