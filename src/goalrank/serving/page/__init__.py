"""Page at `/` and the routes that only the page uses."""
