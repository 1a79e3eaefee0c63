"""Requests to arrays and padded batches: vocabularies, features, encoder."""
