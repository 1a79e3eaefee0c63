"""State of users and items: a fold of the event log that answers for the moment of now."""
