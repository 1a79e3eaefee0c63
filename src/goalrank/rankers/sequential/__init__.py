"""Generators: rankers that write a list slot by slot."""
