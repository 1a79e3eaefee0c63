"""Ranking metrics, and rankers measured under one protocol."""
