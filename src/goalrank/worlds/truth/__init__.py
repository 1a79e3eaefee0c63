"""What is true in a world: best lists, bounds, regret."""
