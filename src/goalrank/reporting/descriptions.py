"""What rankers, metrics, stages of training and protocols are, for people who do not know their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from goalrank.wording import counted

_REVERSED = " (reversed)"
FEATURE = "feature:"  # in front of a baseline that sorts by one of the candidates' features
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
_METRICS = {
    "ndcg": "How near the order of the list is to the best one: liked items count, and the more the "
    "higher they stand. 1 is the best list.",
    "recall": "Of the liked candidates, as many as fit in the list, the share that is in it.",
    "hit_rate": "1 where the list holds a liked item, else 0; the mean is the share of such requests.",
    "map": "Mean average precision: at each liked item of the list, the share of liked ones so far; "
    "averaged.",
    "f1": "One number for two: the share of the list that is liked, and recall.",
    "auc": "How often a liked candidate is scored above one that is not; 0.5 is chance. Rankers that "
    "write lists without a score for every candidate have none.",
}
_STAGES = {
    "import": "Reads the log and makes requests of it.",
    "itemwise": "The reward model's rival: the same network, which sees each item alone.",
    "evaluation": "Ranks the test requests with the trained rankers.",
    "reward-itemwise": "Trains the reward model's rival, which sees each item alone.",
    "reward-report": "Measures the reward model on the test requests.",
    "audit": "Ranks the test requests with the baselines.",
    "total": "All of the command, with what lies between these stages.",
}
_REWARD = (
    "A reward model: predicts the feedback to each item of a list, and so what the list is worth."
)
_SOURCES = {
    "own": "drawn from the ranker that is trained",
    "light": "from a light model, a quick ranker that was trained before",
    "heuristic": "sorted by one number of the candidates",
    "perturbed": "drawn from the ranker, with one slot changed",
    "logged": "shown to the user in the log",
    "random": "in random order",
}
_PROTOCOLS = {
    "exposed": "each request is a list that the user was really shown",
    "retrieved": "a retriever found the candidates, and what the user took later counts as liked",
    "injected": "what the user took later was put among the candidates by hand, which can be noticed",
}
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
    if name.startswith(FEATURE):
        feature = name.removeprefix(FEATURE)
        meaning = (meanings or {}).get(feature)
        return (
            f"Sorts by one number of each candidate, {feature}{f': {meaning}' if meaning else ''}."
        )
    if found := _SAMPLES.fullmatch(name):
        return f"Draws {found[1]} lists and picks the one that the reward model values most."
    if name == "retriever":
        return _BASELINES["retriever order"]
    return _BASELINES.get(name) or _TRAINED.get(name, "")


def metric_words(name: str) -> str:
    """Say what a metric measures; empty for one that is nobody's here.

    Args:
        name: with or without the length of the list, such as "ndcg@6".
    """
    metric, _, slots = name.partition("@")
    words = _METRICS.get(metric, "")
    return f"{words} Over the first {counted(int(slots), 'slot')}." if words and slots else words


def stage_words(name: str) -> str:
    """Say what a stage of a job does; empty for one that is nobody's here.

    Args:
        name: a ranker's, or such as "reward-0" or "audit".
    """
    if re.fullmatch(r"reward-\d+", name):
        return _REWARD
    return _STAGES.get(name) or ranker_words(name)


def source_words(name: str) -> str:
    """Say where lists of a group came from; empty for a source that is nobody's here.

    Args:
        name: one of `goalrank.training`'s sources, such as "own".
    """
    return _SOURCES.get(name, "")


def protocol_words(name: str) -> str:
    """Say how requests were made from a log; empty for a protocol that is nobody's here.

    Args:
        name: exposed, retrieved or injected.
    """
    return _PROTOCOLS.get(name, "")
