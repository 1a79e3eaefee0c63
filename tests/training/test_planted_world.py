"""The whole method in a world where likeness within the list matters and the truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from goalrank.rankers import BestOf
from goalrank.requests import Encoder
from goalrank.training import Job, RunOptions, build_config
from goalrank.worlds import TrueReward, World, WorldConfig

pytestmark = pytest.mark.timeout(900)  # the fixture trains five models: minutes on a busy machine

SLOTS = 4
RECIPE = {
    "ranker": {"width": 32, "layers": 1, "heads": 2, "slots": SLOTS},
    "light_loop": {"steps": 450, "batch_size": 128, "validate_every": 150, "patience": 2},
    "reward": {
        "width": 32,
        "heads": 2,
        "loop": {"steps": 900, "batch_size": 256, "validate_every": 300, "patience": 2},
    },
    "training": {"steps": 450, "batch_size": 64, "validate_every": 450, "patience": 0},
    "objective": {"monitor": "none", "temperature": 0.3},
}


@pytest.fixture(scope="module")
def true_rewards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """True reward of every ranker's list on 1,000 unseen requests."""
    torch.set_num_threads(1)
    world = World(
        WorldConfig(
            seed=3, users=400, items=120, clusters=6, dim=8, candidates=16, slots=SLOTS,
            fatigue=0.6, vector_features=True, history=10,
        )
    )  # fmt: skip
    train, validation, test = (
        world.sample(n, seed=seed) for n, seed in ((20_000, 1), (1000, 3), (1000, 2))
    )
    encoder = Encoder.fit(train)
    columns, held_out = encoder.encode(train), encoder.encode(validation)
    folder: Path = tmp_path_factory.mktemp("job")
    options = RunOptions(folder, progress=False, accelerator="cpu")
    fitted = Job(encoder.spec, columns, held_out, build_config(RECIPE), options).run()
    assert fitted.reward is not None
    rankers = dict(fitted.rankers)
    rankers["best of 100"] = BestOf([rankers["prm"]], fitted.reward, 100, slots=SLOTS)
    tested = encoder.encode(test)
    truth = TrueReward(world, test, tested)
    batch = tested.batch(slice(None))
    with torch.inference_mode():
        return {
            name: truth(batch, ranker.eval().rank(batch, SLOTS)[:, None]).squeeze(1).numpy()
            for name, ranker in rankers.items()
        }


@pytest.mark.parametrize("rival", ["dnn", "prm", "best of 100"])
def test_goalrank_is_above_its_rivals(true_rewards: dict[str, np.ndarray], rival: str) -> None:
    difference = true_rewards["goalrank"] - true_rewards[rival]
    half_width = 1.96 * difference.std() / np.sqrt(len(difference))
    print(f"goalrank - {rival}: {difference.mean():.3f} ± {half_width:.3f}")
    assert difference.mean() - half_width > 0
