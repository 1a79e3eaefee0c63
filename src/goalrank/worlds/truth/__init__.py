"""True rewards in a world: best lists, bounds and regret."""
