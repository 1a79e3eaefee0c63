"""The engine of a server: facts of the past that are kept up to date as rows arrive."""
