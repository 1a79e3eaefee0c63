"""Lightning modules: what one training step computes."""
