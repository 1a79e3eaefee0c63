"""Candidates of each request: protocols, features known at that time, assembly to a table."""
