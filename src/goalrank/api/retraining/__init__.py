"""Retraining: new exposures in, a judged and perhaps promoted version out."""
