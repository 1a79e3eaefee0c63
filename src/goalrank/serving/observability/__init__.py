"""Metrics, traces and stage times of a server."""
