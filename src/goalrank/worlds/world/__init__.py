"""A simulated world: settings, latent vectors and user response."""
