"""Rankers that score each candidate and sort."""
