"""Candidates of requests: protocols, point-in-time features and assembly of the table."""
