"""Ranking in a server: the service, micro-batches, the predictor."""
