"""What a simulated world is: settings, latent vectors, user response."""
