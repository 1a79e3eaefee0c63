"""Objectives: pure functions on tensors."""
