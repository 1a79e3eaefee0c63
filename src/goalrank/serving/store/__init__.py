"""Store of exposures and feedback in a database."""
