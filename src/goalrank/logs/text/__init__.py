"""Titles and descriptions of items as vectors."""
