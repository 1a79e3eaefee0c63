"""Ranking in a server: the service, its jobs and micro-batches."""
