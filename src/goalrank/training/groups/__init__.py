"""Groups of lists per request."""
