"""Bodies and answers of the service; made by `python -m tests.client.generate`, not by hand."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


class Answer(TypedDict):
    """
    A list.

    Attributes:
        request_id: of the request.
        items: item ids, best first.
        log_prob: log-probability of the list under the policy with its constraints; null where
            degraded.
        propensity: probability with which this list was served; null where degraded.
        policy: name of the model, or `retriever`.
        experiment: experiment:variant, several separated by commas.
        relaxed: constraints that were relaxed because no list obeys them all.
        degraded: the list is in the retriever's order, because the model failed or the deadline
            passed.
        logged: the exposure is in the store.
        filled: inputs that the request lacks, of which the model got its mean over the training
            requests; the store keeps these values.
        state_age: seconds since the latest event that the state knows; null where the server keeps
            no state, or before the first event.
        state_ahead: seconds by which the state that filled in the request is later than its time: 0
            for requests of now; above, it knows of events after that time. Null where the request
            brought everything.
    """

    request_id: str
    items: list[int | str]
    log_prob: float | None
    propensity: float | None
    policy: str
    experiment: NotRequired[str | None]
    relaxed: NotRequired[list[str]]
    degraded: NotRequired[bool]
    logged: NotRequired[bool]
    filled: NotRequired[list[str]]
    state_age: NotRequired[float | None]
    state_ahead: NotRequired[float | None]


class AtLeast(TypedDict):
    """
    At least `least` items whose column `by` has (or holds) `value`.
    """

    by: str
    value: bool | int | str
    least: int


class AtMost(TypedDict):
    """
    At most `most` items of one value of column `by` in any `window` slots in a row.

    Attributes:
        window: None is the whole list.
    """

    by: str
    most: int
    window: NotRequired[int | None]


class BatchAnswer(TypedDict):
    """
    Several lists.

    Attributes:
        lists: in the order of the requests.
    """

    lists: list[Answer]


class Diversity(TypedDict):
    """
    Each placed item lowers the logits of items that share its value of `by` by `weight`.
    """

    by: str
    weight: float


class ErrorContent(TypedDict):
    """
    Description of an error.

    Attributes:
        code: for machines.
        message: for people: the value that was found, the rule it breaks, the remedy.
        details: where in the request each rule is broken.
    """

    code: str
    message: str
    details: NotRequired[list[dict[str, Any]]]


class EventBody(TypedDict):
    """
    Feedback of a user to one item.

    Attributes:
        request_id: of the answer that the item was in.
        item: id of a shown item.
        kind: feedback type, e.g. "click".
        value: of the feedback.
    """

    request_id: str
    item: int | str
    kind: str
    value: NotRequired[float]


class EventsAnswer(TypedDict):
    """
    What the log did with the events.

    Attributes:
        stored: new rows: an exposure has one per item.
        duplicates: rows that were there with the same content.
        position: number of the log's latest row.
    """

    stored: int
    duplicates: int
    position: int


class FeedbackAnswer(TypedDict):
    """
    What the store did with the events.

    Attributes:
        stored: new events.
        duplicates: events stored before with the same value.
        replaced: events stored before with another value, which was replaced.
    """

    stored: int
    duplicates: int
    replaced: int


class FeedbackBody(TypedDict):
    """
    Feedback of users; all events are stored or none.

    Attributes:
        events: 1 … 1,000 events.
    """

    events: list[EventBody]


class Forgotten(TypedDict):
    """
    What was deleted about a user.

    Attributes:
        known: whether the state knew the user.
        events: rows of the event log.
        exposures: rows of the store.
    """

    known: bool
    events: int
    exposures: int


class Interaction(TypedDict):
    """
    What a user did with an item.

    Attributes:
        type: "interaction".
        event_id: makes sending it again harmless; a hash of the content if absent.
        user_id: who.
        item_id: what.
        time: when, with a time zone; now if absent.
        values: feedback type → value; types that are not named are 0.
    """

    type: Literal['interaction']
    event_id: NotRequired[str | None]
    user_id: int | str
    item_id: int | str
    time: NotRequired[str | None]
    values: NotRequired[dict[str, float]]


class ItemColumns(TypedDict):
    """
    What is said of an item.

    Attributes:
        type: "item".
        event_id: makes sending it again harmless; a hash of the content if absent.
        item_id: of whom it is said; may be new.
        time: since when it holds, with a time zone; now if absent.
        columns: columns of the items' side table that the model was trained with → value, or
            `title` and `url` for display. Columns that are not named stay as they are.
    """

    event_id: NotRequired[str | None]
    time: NotRequired[str | None]
    columns: dict[str, bool | float | str | list[str] | list[float]]
    type: Literal['item']
    item_id: int | str


class Shown(TypedDict):
    """
    A list that a user was shown, with the answers.

    Attributes:
        type: "exposure".
        event_id: makes sending it again harmless; a hash of the content if absent.
        user_id: who.
        items: 1 … 1,000 item ids, in the order shown.
        time: when, with a time zone; now if absent.
        values: feedback type → one value per item; types that are not named are 0.
    """

    type: Literal['exposure']
    event_id: NotRequired[str | None]
    user_id: int | str
    items: list[int | str]
    time: NotRequired[str | None]
    values: NotRequired[dict[str, list[float]]]


class UserColumns(TypedDict):
    """
    What is said of a user.

    Attributes:
        type: "user".
        event_id: makes sending it again harmless; a hash of the content if absent.
        user_id: of whom it is said; may be new.
        time: since when it holds, with a time zone; now if absent.
        columns: columns of the users' side table that the model was trained with → value. Columns
            that are not named stay as they are.
    """

    event_id: NotRequired[str | None]
    time: NotRequired[str | None]
    columns: dict[str, bool | float | str | list[str] | list[float]]
    type: Literal['user']
    user_id: int | str


class Constraints(TypedDict):
    """
    Rules that a list must obey.

    Attributes:
        blocked: item ids that never appear; never relaxed.
        pinned: slot (from 0) → id of the item in that slot.
        at_most, at_least: see the classes.
        dedupe: column; no two items share a value of it.
        diversity: a preference, not a strict rule.
        on_infeasible: `relax` drops rules, in the order of `relax`, until a list exists, and names
            them; `fail` raises.
        relax: kinds in the order in which they are dropped; `length` shortens the list.
    """

    blocked: NotRequired[list[int | str]]
    pinned: NotRequired[dict[str, int | str]]
    at_most: NotRequired[list[AtMost]]
    at_least: NotRequired[list[AtLeast]]
    dedupe: NotRequired[str | None]
    diversity: NotRequired[Diversity | None]
    on_infeasible: NotRequired[Literal['relax', 'fail']]
    relax: NotRequired[
        list[Literal['at_least', 'at_most', 'dedupe', 'pinned', 'length']]
    ]


class ErrorAnswer(TypedDict):
    """
    Body of every answer whose status is not 2xx.

    Attributes:
        error: what went wrong.
    """

    error: ErrorContent


Events: TypeAlias = Interaction | Shown | ItemColumns | UserColumns


class EventsBody(TypedDict):
    """
    Events; all are stored or none.

    Attributes:
        events: 1 … 10,000 events, in any order, of at most 20,000 items together.
    """

    events: list[Events]


class RankBody(TypedDict):
    """
    One request for a list.

    Attributes:
        request_id: up to 128 printable ASCII characters; made by the server if absent. Feedback
            refers to it.
        user_id: a string or an integer, as in training.
        time: of the request, with a time zone, from 1970 to a day ahead; now if absent.
        history: item ids, oldest first; from state if absent, where the server keeps state.
        history_feedback: one value per item of the history, for models trained with such.
        history_time: one time per item of the history, before `time`, for models trained with such.
        candidates: 1 … 10,000 distinct item ids.
        candidate_score: the retriever's scores, one per candidate, for models trained with such.
        candidate_features: one vector per candidate, for models trained with such features; from
            state if absent, where the server keeps state.
        slots: L, 1 … 100; the model's if absent.
        rules: constraints of this request, in addition to the server's.
        missing: what is done where an input that the model was trained with is absent: "refuse"
            (422, missing_input) or "mean", its mean over the training requests; the server's
            setting if absent.
    """

    request_id: NotRequired[str | None]
    user_id: int | str
    time: NotRequired[str | None]
    history: NotRequired[list[int | str]]
    history_feedback: NotRequired[list[float] | None]
    history_time: NotRequired[list[str] | None]
    candidates: list[int | str]
    candidate_score: NotRequired[list[float] | None]
    candidate_features: NotRequired[list[list[float]] | None]
    slots: NotRequired[int | None]
    rules: NotRequired[Constraints | None]
    missing: NotRequired[Literal['refuse', 'mean'] | None]


class RecommendBody(TypedDict):
    """
    A request for a list from all items.

    Attributes:
        request_id: as in /v1/rank.
        user_id: a string or an integer, as in training.
        time: of the request, with a time zone, from 1970 to a day ahead; now if absent.
        slots: L, 1 … 100; the model's if absent.
        candidates: how many items are retrieved and ranked; as in training if absent.
        exclude_seen: whether items that the user ever consumed are left out; as in training if
            absent. True is refused where the import kept them: the state does not know all then.
        rules: constraints of this request, in addition to the server's.
    """

    request_id: NotRequired[str | None]
    user_id: int | str
    time: NotRequired[str | None]
    slots: NotRequired[int | None]
    candidates: NotRequired[int | None]
    exclude_seen: NotRequired[bool | None]
    rules: NotRequired[Constraints | None]


class BatchBody(TypedDict):
    """
    Several requests, answered in their order; all are stored or none.

    Attributes:
        requests: 1 … 1,000 requests.
    """

    requests: list[RankBody]
