"""What each ranker does, in a sentence for people who do not know its name."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REVERSED = " (reversed)"
_FEATURE = "feature:"
_BASELINES = {
    "retriever order": "Sorts by the score of the retriever that found the candidates.",
    "popularity": "Sorts by how often users answered each item in training.",
    "smoothed feedback rate": "Sorts by the share of each item's showings in training that users liked.",
    "last-item transitions": "Sorts by how often each item followed the user's last one in training.",
    "input order": "Keeps the candidates in the order in which they came.",
    "random": "Orders the candidates by chance.",
    "constant": "Scores all candidates alike: what chance gives on average.",
    "linear baseline": "Adds up the candidates' numbers with fitted weights; solved in seconds.",
}
_TRAINED = {
    "goalrank": "One network that writes the list slot by slot; taught by a reward model to prefer "
    "the better of many whole lists.",
    "dcn_v2": "A network that scores each candidate alone from products of its features.",
    "din": "A network that scores each candidate by the history events most like it.",
    "dlcm": "A recurrent network that reads the initial list, then scores its candidates.",
    "dnn": "A network that scores each candidate alone.",
    "dpp": "Balances relevance and variety by a determinantal point process; learns nothing.",
    "egrank": "A pointer network that is trained on the values of an evaluator.",
    "hstu": "A network that reads each candidate as the next event of the history.",
    "lambdamart": "Boosted decision trees that are trained for the order of a list.",
    "linear": "Adds up the candidates' numbers with fitted weights.",
    "mir": "A network that scores candidates together with the history.",
    "mmr": "Trades relevance against likeness to the items placed before; learns nothing.",
    "nar4rec": "A network that fills all slots of the list at once.",
    "nlgr": "A network that starts from a sorted list and changes it slot by slot.",
    "pier": "Chooses among orders of the candidates by the user's interests.",
    "prm": "A transformer that scores each candidate while it sees the whole list.",
    "prs": "Proposes orders of the candidates by a beam search and picks the most valued.",
    "rankmixer": "A network that mixes groups of features and scores each candidate.",
    "sasrec": "A transformer that reads the history and scores candidates by what comes next.",
    "seq2slate": "A recurrent network that points at one candidate after another.",
    "setrank": "A network that scores candidates together, whatever their order.",
    "xgboost": "Boosted decision trees of another library, trained for the order of a list.",
}
_TRAINED["generator"] = _TRAINED["goalrank"]
_SAMPLES = re.compile(r"best_of_(\d+)")


def ranker_words(name: str, meanings: Mapping[str, str] | None = None) -> str:
    """Say what a ranker does; empty for a name that is nobody's here.

    Args:
        name: as in evaluations and audits, or the name of a ranker in settings.
        meanings: candidate feature → what it is.
    """
    if name.endswith(_REVERSED):
        upright = ranker_words(name.removesuffix(_REVERSED), meanings)
        return f"The other way round: {upright[0].lower()}{upright[1:]}" if upright else ""
    if name.startswith(_FEATURE):
        feature = name.removeprefix(_FEATURE)
        meaning = (meanings or {}).get(feature)
        return (
            f"Sorts by one number of each candidate, {feature}{f': {meaning}' if meaning else ''}."
        )
    if found := _SAMPLES.fullmatch(name):
        return f"Draws {found[1]} lists and picks the one that the reward model values most."
    if name == "retriever":
        return _BASELINES["retriever order"]
    return _BASELINES.get(name) or _TRAINED.get(name, "")
