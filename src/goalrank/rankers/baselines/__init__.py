"""Baselines: rankers without learning."""
