"""What a new policy would have earned, estimated from another policy's log."""
