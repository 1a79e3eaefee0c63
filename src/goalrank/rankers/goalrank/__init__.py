"""GoalRank's policy: an autoregressive pointer over candidates."""
