"""Rankers made of others: proposals and an evaluator that picks."""
