"""Name of the column by which copies of rows are told from rows that conversion made equal."""

COPY = "copy"
"""A hash of what conversion rounds; rows that agree in it and all else are copies."""
