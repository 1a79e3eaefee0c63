"""Composite rankers: other rankers propose lists and a reward picks one."""
