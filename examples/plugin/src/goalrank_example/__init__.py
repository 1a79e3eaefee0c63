"""A ranker, a reward, a log reader, a metric and an objective for goalrank."""
