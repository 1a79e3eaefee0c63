"""Files here or behind an address: reading with retries, writing whole or not at all, locks."""

from goalrank.storage.location import Location
from goalrank.storage.locks import Claim, holding
from goalrank.storage.retry import RETRIES, transient, with_retries

__all__ = [
    "RETRIES",
    "Claim",
    "Location",
    "holding",
    "transient",
    "with_retries",
]
