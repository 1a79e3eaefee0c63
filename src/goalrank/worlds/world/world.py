"""A planted world: its users and items, and how users respond to lists."""

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


def _response_parameters(config: WorldConfig) -> ResponseParameters:
    position_model = config.examination == "position"
    logit_shifts = [-config.noise, config.noise] if config.noise > 0 else [0.0]
    return ResponseParameters(
        after_click=config.decay if position_model else config.continue_click,
        after_skip=config.decay if position_model else config.continue_skip,
        fatigue=config.fatigue,
        complementarity=config.complementarity,
        logit_shifts=torch.tensor(logit_shifts, dtype=torch.float64),
        weights=torch.tensor([kind.weight for kind in config.kinds], dtype=torch.float64),
    )


class PlantedWorld:
    """Users, items and a response model (see `goalrank.worlds.ResponseModel`).

    Users and items are numbered from 0. Everything is a function of ``config`` (and of the factors
    given to `from_factors`), so that the same settings give the same world.

    Args:
        config: the settings.
        latents: hidden state; None plants clusters from ``config.seed``, or reads the factors that
            ``config`` names.

    Raises:
        ConfigError: sizes of ``latents`` and ``config`` differ.
        DataError: the factors' file is missing, damaged or of another world.
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
        self.response_parameters = _response_parameters(config)
        weight = self.latents.popularity.log()
        self.popularity_score = (weight - weight.mean()) / weight.std(correction=0).clamp_min(1e-12)

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
            user_factors: [U, D], any scale (they are normalised).
            item_factors: [I, D], any scale (they are normalised).
            config: its ``users``, ``items`` and ``dim`` are replaced by the factors' sizes.
            popularity: [I] interaction counts; None draws Zipf weights.

        Raises:
            DataError: the matrices do not fit together.
            ConfigError: fewer items than N.
        """
        latents = from_factors(user_factors, item_factors, config, popularity)
        sizes = {
            "users": len(latents.users),
            "items": len(latents.items),
            "dim": latents.items.shape[1],
        }
        return cls(WorldConfig(**(config.model_dump() | sizes | {"factors": None})), latents)

    def to(self, device: torch.device | str) -> Self:
        """Copy the world to another device; sampling works on the CPU only.

        Args:
            device: the device.
        """
        moved = type(self)(self.config, self.latents.to(device))
        moved.response_parameters = ResponseParameters(
            self.response_parameters.after_click,
            self.response_parameters.after_skip,
            self.response_parameters.fatigue,
            self.response_parameters.complementarity,
            self.response_parameters.logit_shifts.to(device),
            self.response_parameters.weights.to(device),
        )
        return moved

    def user_vectors(self, users: Tensor, time: Tensor | None = None) -> Tensor:
        """Latent vectors of users at a time.

        Drift rotates each plane of two neighbouring dimensions by ``drift`` radians per day.

        Args:
            users: [B] user numbers.
            time: [B] days since the epoch; None is day 0.

        Returns:
            [B, D].
        """
        user_vector = self.latents.users[users]
        if time is None or self.config.drift == 0.0:
            return user_vector
        angle = (self.config.drift * time.to(user_vector))[:, None]
        even = user_vector.shape[1] // 2 * 2
        x, y = user_vector[:, 0:even:2], user_vector[:, 1:even:2]
        rotated = torch.stack(
            [x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], dim=2
        ).flatten(1)
        return torch.cat([rotated, user_vector[:, even:]], dim=1)

    def logits(self, user_vector: Tensor, items: Tensor, time: Tensor | None = None) -> Tensor:
        """Logit of the attraction of each item alone.

        Args:
            user_vector: [B, D] from `user_vectors`.
            items: [B, N] item numbers.
            time: [B] days since the epoch; None leaves the season out.

        Returns:
            [B, N].
        """
        config, latents = self.config, self.latents
        fit = latents.items[items].mul_(user_vector[:, None, :]).sum(dim=2)  # in place on the copy
        logit = config.bias + config.scale * fit + config.quality * latents.quality[items]
        if config.season > 0.0 and time is not None:
            phase = (time / config.season_days)[:, None] + latents.phase[latents.cluster[items]]
            logit = logit + config.season * torch.sin(2.0 * math.pi * phase)
        return logit

    def _given_click(self, user_vector: Tensor, items: Tensor) -> Tensor:
        columns = [torch.ones(items.shape, dtype=torch.float64, device=user_vector.device)]
        for kind, rotation in zip(self.config.kinds[1:], self.latents.rotations[1:], strict=True):
            fit = (self.latents.items[items] * (user_vector @ rotation)[:, None, :]).sum(dim=2)
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
                f"users must be in 0..{self.config.users - 1} and items in "
                f"0..{self.config.items - 1} (-1 pads); remedy: use numbers of this world"
            )

    def response_model(
        self, users: Tensor, items: Tensor, time: Tensor | None = None
    ) -> ResponseModel:
        """The response model of B requests.

        Args:
            users: [B] user numbers in 0..U-1.
            items: [B, N] item numbers in 0..I-1; -1 pads.
            time: [B] days since the epoch; None is day 0.

        Raises:
            DataError: numbers out of range or shapes that do not fit.
        """
        self._check(users, items)
        mask, items = items >= 0, items.clamp_min(0)
        if time is None:
            time = torch.zeros(len(users), dtype=torch.float64, device=items.device)
        user_vector = self.user_vectors(users, time)
        vector = self.latents.items[items]
        vector = vector / vector.norm(dim=2, keepdim=True).clamp_min(1e-12)
        cosine = (vector @ vector.transpose(1, 2)).clamp(0.0, 1.0)
        cluster = self.latents.cluster[items]
        return ResponseModel(
            base=self.logits(user_vector, items, time),
            similarity=cosine.pow(self.config.similarity_power),
            complements=cluster[:, :, None] == self.latents.complement[cluster][:, None, :],
            given_click=self._given_click(user_vector, items),
            mask=mask,
            parameters=self.response_parameters,
        )

    def reward(
        self, users: Tensor, items: Tensor, lists: Tensor, time: Tensor | None = None
    ) -> Tensor:
        """Expected reward r* of lists.

        Args:
            users: [B] user numbers.
            items: [B, N] item numbers; -1 pads.
            lists: [B, G, L] positions on the N axis; -1 marks an empty slot.
            time: [B] days since the epoch; None is day 0.

        Returns:
            [B, G] float64.

        Raises:
            DataError: numbers out of range or shapes that do not fit.
        """
        return self.response_model(users, items, time).reward(lists)

    def slot_probabilities(
        self, users: Tensor, items: Tensor, lists: Tensor, time: Tensor | None = None
    ) -> Tensor:
        """P(feedback type) of every slot of lists.

        Args:
            users: [B] user numbers.
            items: [B, N] item numbers; -1 pads.
            lists: [B, G, L] positions on the N axis; -1 marks an empty slot.
            time: [B] days since the epoch; None is day 0.

        Returns:
            [B, G, L, K], feedback types in the order of ``config.kinds``.

        Raises:
            DataError: numbers out of range or shapes that do not fit.
        """
        return self.response_model(users, items, time).slot_probabilities(lists)
