"""A typed client of the service: `goalrank serve` from the other side."""

from goalrank.client.bodies import (
    Answer,
    Constraints,
    EventBody,
    EventsAnswer,
    FeedbackAnswer,
    Forgotten,
    Interaction,
    RankBody,
    RecommendBody,
    Shown,
)
from goalrank.client.client import Client, Refused

__all__ = [
    "Answer",
    "Client",
    "Constraints",
    "EventBody",
    "EventsAnswer",
    "FeedbackAnswer",
    "Forgotten",
    "Interaction",
    "RankBody",
    "RecommendBody",
    "Refused",
    "Shown",
]
