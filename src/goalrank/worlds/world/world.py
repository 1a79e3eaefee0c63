"""A planted world: users, items and the law by which users answer lists."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from goalrank.errors import ConfigError, DataError
from goalrank.worlds.world.config import WorldConfig
from goalrank.worlds.world.fitted import fitted_latents
from goalrank.worlds.world.latents import Latents, from_factors, planted
from goalrank.worlds.world.response_model import ResponseModel, ResponseParameters

# Time inside a world is counted in days since this instant (microseconds since 1970, UTC).
EPOCH_US = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z
DAY_US = 86_400_000_000


def _physics(config: WorldConfig) -> ResponseParameters:
    steady = config.examination == "position"
    moods = [-config.noise, config.noise] if config.noise > 0 else [0.0]
    return ResponseParameters(
        after_click=config.decay if steady else config.continue_click,
        after_skip=config.decay if steady else config.continue_skip,
        fatigue=config.fatigue,
        complementarity=config.complementarity,
        moods=torch.tensor(moods, dtype=torch.float64),
        weights=torch.tensor([kind.weight for kind in config.kinds], dtype=torch.float64),
    )


class PlantedWorld:
    """Users, items and the law by which users answer lists (see `goalrank.worlds.world.response_model`).

    Users and items are numbered from 0; everything is a function of ``config`` (and of the factors
    given to `from_factors`), so the same seed is the same world.

    Args:
        config: the settings.
        latents: what is planted; None plants clusters from ``config.seed``, or takes the factors
            that ``config`` names.

    Raises:
        ConfigError: sizes of ``latents`` and ``config`` differ.
        DataError: the factors' file is missing, damaged or another.
    """

    def __init__(self, config: WorldConfig, latents: Latents | None = None) -> None:
        self.config = config
        if latents is None:
            given = config.factors
            latents = planted(config) if given is None else fitted_latents(config, given)
        self.latents = latents
        sizes = (len(self.latents.users), len(self.latents.items), self.latents.items.shape[1])
        if sizes != (config.users, config.items, config.dim):
            raise ConfigError(
                f"latents hold (users, items, dim) = {sizes} but the settings say "
                f"{(config.users, config.items, config.dim)}; remedy: set users, items and dim to "
                f"what the latents hold, or use World.from_factors"
            )
        self.physics = _physics(config)
        weight = self.latents.popularity.log()
        self.fame = (weight - weight.mean()) / weight.std(correction=0).clamp_min(1e-12)

    @classmethod
    def from_factors(
        cls,
        user_factors: Tensor,
        item_factors: Tensor,
        config: WorldConfig,
        *,
        popularity: Tensor | None = None,
    ) -> Self:
        """A world as large as a dataset, on factors fitted to it.

        Args:
            user_factors: [U, D] and item_factors: [I, D], any scale (they are normalised).
            config: its ``users``, ``items`` and ``dim`` are replaced by the factors' sizes.
            popularity: [I] interaction counts; None draws Zipf weights.

        Raises:
            DataError: the matrices do not fit together. ConfigError: too few items for N.
        """
        latents = from_factors(user_factors, item_factors, config, popularity)
        sizes = {
            "users": len(latents.users),
            "items": len(latents.items),
            "dim": latents.items.shape[1],
        }
        return cls(WorldConfig(**(config.model_dump() | sizes | {"factors": None})), latents)

    def to(self, device: torch.device | str) -> Self:
        """The same world with its tensors on another device (sampling stays on the CPU)."""
        moved = type(self)(self.config, self.latents.to(device))
        moved.physics = ResponseParameters(
            self.physics.after_click,
            self.physics.after_skip,
            self.physics.fatigue,
            self.physics.complementarity,
            self.physics.moods.to(device),
            self.physics.weights.to(device),
        )
        return moved

    def tastes(self, users: Tensor, time: Tensor | None = None) -> Tensor:
        """Taste vectors [B, D] of users [B] at ``time`` [B] (days since the epoch).

        Drift turns each plane of two neighbouring dimensions by ``drift`` radians a day.
        """
        taste = self.latents.users[users]
        if time is None or self.config.drift == 0.0:
            return taste
        angle = (self.config.drift * time.to(taste))[:, None]
        even = taste.shape[1] // 2 * 2
        x, y = taste[:, 0:even:2], taste[:, 1:even:2]
        turned = torch.stack(
            [x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], dim=2
        ).flatten(1)
        return torch.cat([turned, taste[:, even:]], dim=1)

    def logits(self, taste: Tensor, items: Tensor, time: Tensor | None = None) -> Tensor:
        """Logit of the attraction of each item alone: taste [B, D], items [B, N] → [B, N]."""
        config, latents = self.config, self.latents
        fit = latents.items[items].mul_(taste[:, None, :]).sum(dim=2)  # in place on the copy
        logit = config.bias + config.scale * fit + config.quality * latents.quality[items]
        if config.season > 0.0 and time is not None:
            turn = (time / config.season_days)[:, None] + latents.phase[latents.cluster[items]]
            logit = logit + config.season * torch.sin(2.0 * math.pi * turn)
        return logit

    def _given_click(self, taste: Tensor, items: Tensor) -> Tensor:
        columns = [torch.ones(items.shape, dtype=torch.float64, device=taste.device)]
        for kind, turn in zip(self.config.kinds[1:], self.latents.turns[1:], strict=True):
            fit = (self.latents.items[items] * (taste @ turn)[:, None, :]).sum(dim=2)
            columns.append(torch.sigmoid(kind.bias + kind.scale * fit))
        return torch.stack(columns, dim=2)

    def _check(self, users: Tensor, items: Tensor) -> None:
        if users.ndim != 1 or items.ndim != 2 or len(users) != len(items):
            raise DataError(
                f"users {tuple(users.shape)} and items {tuple(items.shape)} must be [B] and [B, N]"
            )
        if items.shape[1] == 0:
            raise DataError("items [B, 0]: a request needs at least one candidate")
        if len(users) and (
            int(users.min()) < 0
            or int(users.max()) >= self.config.users
            or int(items.max()) >= self.config.items
        ):
            raise DataError(
                f"users must lie in 0..{self.config.users - 1} and items in "
                f"0..{self.config.items - 1} (-1 pads); remedy: numbers of this world"
            )

    def scene(self, users: Tensor, items: Tensor, time: Tensor | None = None) -> ResponseModel:
        """All that the truth needs about B requests.

        Args:
            users: [B] numbers in 0..U-1.
            items: [B, N] numbers in 0..I-1; -1 pads.
            time: [B] days since the epoch; None means day 0 of a world without drift or season.

        Raises:
            DataError: numbers out of range or shapes that do not fit.
        """
        self._check(users, items)
        mask, items = items >= 0, items.clamp_min(0)
        if time is None:
            time = torch.zeros(len(users), dtype=torch.float64, device=items.device)
        taste = self.tastes(users, time)
        vector = self.latents.items[items]
        vector = vector / vector.norm(dim=2, keepdim=True).clamp_min(1e-12)
        alike = (vector @ vector.transpose(1, 2)).clamp(0.0, 1.0)
        cluster = self.latents.cluster[items]
        return ResponseModel(
            base=self.logits(taste, items, time),
            similarity=alike.pow(self.config.similarity_power),
            completes=cluster[:, :, None] == self.latents.complement[cluster][:, None, :],
            given_click=self._given_click(taste, items),
            mask=mask,
            physics=self.physics,
        )

    def reward(
        self, users: Tensor, items: Tensor, lists: Tensor, time: Tensor | None = None
    ) -> Tensor:
        """Expected reward r*: users [B], items [B, N], lists [B, G, L] → [B, G] float64.

        Lists hold positions on the N axis; -1 marks an empty slot. See `scene` for what is raised.
        """
        return self.scene(users, items, time).reward(lists)

    def slot_probabilities(
        self, users: Tensor, items: Tensor, lists: Tensor, time: Tensor | None = None
    ) -> Tensor:
        """P(kind) in every slot: → [B, G, L, K], kinds in the order of ``config.kinds``."""
        return self.scene(users, items, time).slot_probabilities(lists)
