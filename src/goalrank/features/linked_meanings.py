"""What features of linked models are: those that an import learns from the log instead of counting."""

from __future__ import annotations

_NAMES = {
    "transition_last": "how often users chose the item soon after the one that this user chose last "
    "(links between items of the training log)",
    "transition_recent": "how often users chose the item soon after those that this user chose "
    "lately, later ones counting more (links between items of the training log)",
}
_CHANNELS = {
    "item_to_item": "links from the user's recent items",
    "factorisation": "factors of users and items",
    "popularity": "popularity",
    "transition_last": "links from the user's last item",
    "transition_recent": "links from the user's recent items",
}


def linked_meaning(name: str) -> str:
    """Say what a linked feature is; empty for a name that is none of them."""
    if name in _NAMES:
        return _NAMES[name]
    model, _, kind = name.rpartition("_")
    if kind == "affinity" and model:
        return (
            f"share of the user's recent items that have the {model} of the item "
            f"(mean over each {model}; in [0, 1])"
        )
    if kind == "score" and model in _CHANNELS:
        return f"the item's score in retrieval by {_CHANNELS[model]}"
    if kind == "rank" and model in _CHANNELS:
        return (
            f"1 / the item's rank in retrieval by {_CHANNELS[model]}; 0 where it is not among them"
        )
    return ""
