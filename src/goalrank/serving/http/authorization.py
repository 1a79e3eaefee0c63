"""Authorization of requests: the key, its tokens, and callers who try wrong keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from goalrank.serving.http.access import CHALLENGE, KEY_NAME, Keys
from goalrank.serving.http.guarded_routes import Check

_BEARER = HTTPBearer(auto_error=False)
WRONG, _WRONG_S, _CALLERS = 20, 60.0, 10_000


class WrongKeys:
    """Wrong keys of each address lately, so that keys cannot be guessed quickly.

    Args:
        most: wrong keys that are answered as such.
        seconds: in which so many are forgotten again.
        callers: addresses that are remembered; the one that was seen first is forgotten first.
    """

    def __init__(
        self, most: int = WRONG, seconds: float = _WRONG_S, callers: int = _CALLERS
    ) -> None:
        self._most, self._rate, self._callers = most, most / seconds, callers
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, address: str) -> bool:
        """Whether an address may be told that its key is wrong; counts it.

        Args:
            address: of the caller.
        """
        now = monotonic()
        count, then = self._seen.pop(address, (0.0, now))
        count = max(count - (now - then) * self._rate, 0.0)
        allowed = count + 1 <= self._most
        self._seen[address] = (count + allowed, now)
        if len(self._seen) > self._callers:
            self._seen.popitem(last=False)
        return allowed


class Access:
    """Checks keys and takes tokens of their rates.

    Args:
        keys: the API keys.
        wrong_keys: that an address may try per minute.
    """

    def __init__(self, keys: Keys, wrong_keys: int = WRONG) -> None:
        self.keys, self._wrong = keys, WrongKeys(wrong_keys)

    def routes(self, kind: Callable[[Check], type[APIRoute]]) -> APIRouter:
        """Make a group of routes that refuse a request without a right key before parsing its body.

        Args:
            kind: makes the class of the routes from what checks a request.
        """
        # The dependency says in the API's description that a key is needed.
        needs = [Depends(self.authorize)]
        return APIRouter(route_class=kind(self.check), dependencies=needs)

    # A coroutine: a plain function would run in another thread for each request.
    async def authorize(
        self,
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> None:
        """Refuse a request without a right key, or beyond the rate of its key; each is looked at once.

        Args:
            request: the request.
            given: its key.

        Raises:
            HTTPException: 401 or 429.
        """
        if KEY_NAME in request.scope:
            return
        name = self.keys.owner(given.credentials if given else None)
        if name is None:
            address = request.client.host if request.client else ""
            if given is not None and not self._wrong.allow(address):
                raise HTTPException(429, "too many wrong keys", {"Retry-After": "60"})
            raise HTTPException(401, "send Authorization: Bearer KEY", CHALLENGE)
        if not self.keys.allow(name):
            raise HTTPException(429, f"at most {self.keys.rate} lists/s", {"Retry-After": "1"})
        request.scope[KEY_NAME] = name

    async def check(self, request: Request) -> None:
        """Do what `authorize` does, where no framework looks for the key.

        Args:
            request: the request.

        Raises:
            HTTPException: 401 or 429.
        """
        await self.authorize(request, await _BEARER(request))

    def charge(self, request: Request, lists: int) -> None:
        """Take a token for each list of a request beyond the first, which `authorize` took.

        What a key has not is taken in advance: its next requests wait for it.

        Args:
            request: an authorized request.
            lists: that it asks for.
        """
        self.keys.charge(request.scope.get(KEY_NAME, ""), lists - 1)
