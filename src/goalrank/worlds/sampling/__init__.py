"""Sampling of requests, lists and feedback from a world."""
