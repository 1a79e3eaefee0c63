"""A typed client of the service: `goalrank serve` from the other side."""

from goalrank.client.bodies import (
    Answer,
    Constraints,
    EventBody,
    Events,
    EventsAnswer,
    FeedbackAnswer,
    Forgotten,
    Interaction,
    ItemColumns,
    RankBody,
    RecommendBody,
    Shown,
    UserColumns,
)
from goalrank.client.client import Client, Refused

__all__ = [
    "Answer",
    "Client",
    "Constraints",
    "EventBody",
    "Events",
    "EventsAnswer",
    "FeedbackAnswer",
    "Forgotten",
    "Interaction",
    "ItemColumns",
    "RankBody",
    "RecommendBody",
    "Refused",
    "Shown",
    "UserColumns",
]
