"""The page at `/`, and the routes that only it uses."""
