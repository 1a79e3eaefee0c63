"""The store: exposures and feedback in a database."""
