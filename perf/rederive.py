"""PRM and SetRank compared with plain implementations written from their papers, on one data set.

The plain models share only the encoded arrays with the package: they have their own embeddings,
PyTorch's transformer layers, Adam, a short training loop and their own NDCG. The comparison shows
whether the package's models reach the same quality with the same requests, batches, steps and
width.

    python perf/rederive.py FOLDER --steps 800 --seeds 3

FOLDER has the train, validation and test tables of `goalrank data import`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goalrank.evaluation import evaluate
from goalrank.rankers import Ranker
from goalrank.requests import (
    Batch,
    EncodedRequests,
    Encoder,
    EncoderConfig,
    InputSpec,
    Requests,
    whole_file,
)
from goalrank.training import Job, RunOptions, build_config

WIDTH, HEADS, LAYERS, SLOTS, BATCH = 64, 4, 2, 6, 64


class PlainInput(nn.Module):
    """Input of a candidate: id embedding, mean embedding of the history, score and features.

    Args:
        items: number of ids.
        features: number of candidate features.
    """

    def __init__(self, items: int, features: int) -> None:
        super().__init__()
        self.ids = nn.Embedding(items, WIDTH, padding_idx=0)
        nn.init.normal_(self.ids.weight, std=0.05)
        self.mix = nn.Linear(3 * WIDTH + 1 + features, WIDTH)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the input vectors: [B, N, WIDTH]."""
        item = self.ids(batch.items.id_row[batch.candidates])
        history = self.ids(batch.items.id_row[batch.history]) * batch.history_mask[..., None]
        user = history.sum(1) / batch.history_mask.sum(1, keepdim=True).clamp_min(1)
        user = user[:, None, :].expand_as(item)
        plain = torch.cat([batch.candidate_score[..., None], batch.candidate_features], -1)
        vectors: Tensor = self.mix(torch.cat([item, user, item * user, plain], -1))
        return vectors


class PlainPRM(nn.Module):
    """PRM (Pei et al., 2019): [item features; personal vector] + position, transformer, softmax.

    Args:
        items: number of ids.
        features: number of candidate features.
    """

    def __init__(self, items: int, features: int) -> None:
        super().__init__()
        self.input = PlainInput(items, features)
        self.position = nn.Parameter(torch.zeros(64, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        x = self.input(batch) + self.position[retriever_rank(batch)]
        x = self.layers(x, src_key_padding_mask=~batch.candidate_mask)
        scores: Tensor = self.head(x).squeeze(-1)
        return scores


class PlainSetRank(nn.Module):
    """SetRank (Pang et al., 2020): induced multi-head attention blocks (IMSAB), no positions.

    Args:
        items: number of ids.
        features: number of candidate features.
    """

    def __init__(self, items: int, features: int) -> None:
        super().__init__()
        self.input = PlainInput(items, features)
        self.points = nn.ParameterList(
            [nn.Parameter(torch.randn(20, WIDTH) * 0.1) for _ in range(LAYERS)]
        )
        self.to_points = nn.ModuleList([PlainBlock() for _ in range(LAYERS)])
        self.to_items = nn.ModuleList([PlainBlock() for _ in range(LAYERS)])
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        x, padding = self.input(batch), ~batch.candidate_mask
        for points, to_points, to_items in zip(
            self.points, self.to_points, self.to_items, strict=True
        ):
            induced = to_points(points.expand(len(x), -1, -1), x, padding)
            x = to_items(x, induced, None)
        scores: Tensor = self.head(x).squeeze(-1)
        return scores


class PlainBlock(nn.Module):
    """Attention block MAB(Q, K) = LN(H + rFF(H)), H = LN(Q + attention(Q, K, K))."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, 0.1, batch_first=True)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.forward_layer = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, query: Tensor, key: Tensor, padding: Tensor | None) -> Tensor:
        """Attend from `query` [B, Q, D] to `key` [B, K, D], without keys that are padding [B, K]."""
        attended = self.attention(query, key, key, key_padding_mask=padding, need_weights=False)[0]
        h = self.first(query + attended)
        out: Tensor = self.second(h + self.forward_layer(h))
        return out


def retriever_rank(batch: Batch) -> Tensor:
    """Rank the candidates by the retriever's score: [B, N], from 0, at most 63.

    Args:
        batch: the requests.
    """
    score = batch.candidate_score.masked_fill(~batch.candidate_mask, -torch.inf)
    return score.argsort(dim=1, descending=True, stable=True).argsort(dim=1).clamp_max(63)


def attention_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Loss of both papers: −Σ y log softmax(s), y normalised, over requests with a positive.

    Args:
        scores: [B, N].
        batch: the requests.
    """
    y = batch.relevance.clamp_min(0) * batch.candidate_mask
    log_p = scores.masked_fill(~batch.candidate_mask, -1e9).log_softmax(-1)
    has = y.sum(-1) > 0
    return -(y * log_p).sum(-1)[has].div(y.sum(-1)[has]).mean()


def plain_ndcg(model: nn.Module, columns: EncodedRequests) -> np.ndarray:
    """Compute ndcg@6 with linear gain of each request that has a positive.

    Args:
        model: gives scores [B, N].
        columns: the requests.
    """
    model.eval()
    out = []
    discount = 1 / torch.log2(torch.arange(SLOTS) + 2.0)
    with torch.no_grad():
        for batch in columns.batches(256):
            y = batch.relevance.clamp_min(0) * batch.candidate_mask
            score = model(batch).masked_fill(~batch.candidate_mask, -torch.inf)
            dcg = (y.gather(1, score.topk(SLOTS, 1).indices) * discount).sum(1)
            best = (y.topk(SLOTS, 1).values * discount).sum(1)
            out.append((dcg / best)[best > 0])
    model.train()
    return torch.cat(out).numpy()


def fit_plain(
    model: nn.Module,
    train: EncodedRequests,
    validation: EncodedRequests,
    steps: int,
    lr: float,
    seed: int,
) -> nn.Module:
    """Train a plain model by Adam and keep the weights of the best of eight validations.

    Args:
        model: the model; it is changed.
        train: training requests.
        validation: validation requests.
        steps: of the training.
        lr: learning rate.
        seed: of the batches.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    kept, most, step = None, -1.0, 0
    while step < steps:
        for batch in train.batches(BATCH, seed=seed + step):
            if step == steps:
                break
            optimizer.zero_grad()
            attention_loss(model(batch), batch).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % max(steps // 8, 1) == 0:
                found = float(plain_ndcg(model, validation).mean())
                if found > most:
                    most = found
                    kept = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept or model.state_dict())
    return model


def fit_ours(
    name: str,
    spec: InputSpec,
    train: EncodedRequests,
    validation: EncodedRequests,
    steps: int,
    lr: float,
    seed: int,
) -> Ranker:
    """Train the package's model by the package's loop.

    Args:
        name: of the ranker.
        spec: input sizes.
        train: training requests.
        validation: validation requests.
        steps: of the training.
        lr: learning rate.
        seed: of the training.
    """
    loop = {"steps": steps, "batch_size": BATCH, "lr": lr, "validate_every": max(steps // 8, 1)}
    sizes = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "slots": SLOTS}
    config = build_config({"seed": seed, "light": [], "ranker": sizes, "light_loop": loop})
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(Path(folder), progress=False, accelerator="cpu")
        return Job(spec, train, validation, config, options).fit_supervised(name, config.light_loop)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="tables of a data import")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=12000, help="training requests, at most")
    parser.add_argument("--test", type=int, default=4000, help="test requests, at most")
    parser.add_argument("--lr", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3])
    parser.add_argument("--json", type=Path, default=None)
    a = parser.parse_args()
    parts = {}
    for part, most in (("train", a.train), ("validation", 1000), ("test", a.test)):
        table = Requests.read(a.folder / f"{part}.parquet", validate=False)
        chosen = np.random.default_rng(0).permutation(len(table))[:most]
        parts[part] = table.take(np.sort(chosen))
    encoder = Encoder.fit(parts["train"], EncoderConfig(history=20))
    train, held, test = (encoder.encode(parts[part]) for part in ("train", "validation", "test"))
    items = 1 + max(int(part.items.id_row.max()) for part in (train, held, test))
    features = encoder.spec.candidate_features
    rows: list[dict[str, Any]] = []
    for name, plain in (("prm", PlainPRM), ("setrank", PlainSetRank)):
        for seed in range(a.seeds):
            found = {}
            for kind in ("plain", "ours"):
                tried = []
                start = time.perf_counter()
                for lr in a.lr:  # the same trials for both, chosen on validation
                    torch.manual_seed(seed)
                    if kind == "plain":
                        model = fit_plain(plain(items, features), train, held, a.steps, lr, seed)
                        tried.append((float(plain_ndcg(model, held).mean()), lr, model))
                    else:
                        ranker = fit_ours(name, encoder.spec, train, held, a.steps, lr, seed)
                        tried.append(
                            (plain_ndcg(_Scores(ranker), held).mean(), lr, _Scores(ranker))
                        )
                _, lr, model = max(tried, key=lambda each: each[0])
                values = plain_ndcg(model, test)
                found[kind] = (float(values.mean()), lr, time.perf_counter() - start, values)
                if kind == "ours":
                    assert isinstance(model, _Scores)
                    check = evaluate({name: model.ranker}, test, slots=SLOTS, metrics=("ndcg",))
                    theirs = float(np.nanmean(check.values[name]["ndcg@6"]))
                    if abs(theirs - found[kind][0]) >= 1e-4:
                        raise RuntimeError(f"two NDCG differ: {theirs} and {found[kind][0]}")
            gap = found["ours"][3] - found["plain"][3]
            rows.append(
                {
                    "ranker": name,
                    "seed": seed,
                    "ours": found["ours"][0],
                    "plain": found["plain"][0],
                    "difference": float(gap.mean()),
                    "standard_error": float(gap.std() / len(gap) ** 0.5),
                    "lr": {kind: found[kind][1] for kind in found},
                    "seconds": {kind: round(found[kind][2], 1) for kind in found},
                }
            )
            print(rows[-1], flush=True)
    if a.json:
        facts = {"steps": a.steps, "train": len(train), "test": len(test), "rows": rows}
        with whole_file(a.json) as temporary:
            temporary.write_text(json.dumps(facts, indent=1))


class _Scores(nn.Module):
    """Module that returns the scores of a ranker.

    Args:
        ranker: a scorer.
    """

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        return self.ranker.scores(batch)


if __name__ == "__main__":
    main()
