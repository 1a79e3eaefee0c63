"""The evidence bound, and whether the order within a group survives a biased reward."""
