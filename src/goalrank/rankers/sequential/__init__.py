"""Rankers that write a list slot by slot."""
