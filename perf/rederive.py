"""PRM and SetRank against plain re-derivations from their papers, on one data set.

The plain models share nothing with the package but the encoded arrays: their own embeddings, PyTorch's
stock transformer layers, Adam, a loop of twenty lines, their own NDCG. What is compared is the quality that the
package's models reach with the same requests, batches, steps and width.

    python perf/rederive.py FOLDER --steps 800 --seeds 3

FOLDER holds the train, validation and test tables that `goalrank data import` wrote.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from goalrank.evaluation import evaluate
from goalrank.requests import Batch, EncodedRequests, Encoder, EncoderConfig, Requests, whole_file
from goalrank.training import Job, RunOptions, build_config

WIDTH, HEADS, LAYERS, SLOTS, BATCH = 64, 4, 2, 6, 64


class PlainInput(nn.Module):
    """[id embedding; mean of the history's embeddings; retriever's score; candidate features]."""

    def __init__(self, items: int, features: int) -> None:
        super().__init__()
        self.ids = nn.Embedding(items, WIDTH, padding_idx=0)
        nn.init.normal_(self.ids.weight, std=0.05)
        self.mix = nn.Linear(3 * WIDTH + 1 + features, WIDTH)

    def forward(self, batch: Batch) -> Tensor:
        item = self.ids(batch.items.id_row[batch.candidates])
        past = self.ids(batch.items.id_row[batch.history]) * batch.history_mask[..., None]
        user = past.sum(1) / batch.history_mask.sum(1, keepdim=True).clamp_min(1)
        user = user[:, None, :].expand_as(item)
        plain = torch.cat([batch.candidate_score[..., None], batch.candidate_features], -1)
        return self.mix(torch.cat([item, user, item * user, plain], -1))


class PlainPRM(nn.Module):
    """Pei et al., 2019: [item features; personal vector] + position, transformer, softmax."""

    def __init__(self, items: int, features: int) -> None:
        super().__init__()
        self.input = PlainInput(items, features)
        self.position = nn.Parameter(torch.zeros(64, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, batch: Batch) -> Tensor:
        x = self.input(batch) + self.position[rank_before(batch)]
        x = self.layers(x, src_key_padding_mask=~batch.candidate_mask)
        return self.head(x).squeeze(-1)


class PlainSetRank(nn.Module):
    """Pang et al., 2020: induced multi-head attention blocks (IMSAB) over the set, no positions."""

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
        x, hidden = self.input(batch), ~batch.candidate_mask
        for points, there, back in zip(self.points, self.to_points, self.to_items, strict=True):
            few = there(points.expand(len(x), -1, -1), x, hidden)
            x = back(x, few, None)
        return self.head(x).squeeze(-1)


class PlainBlock(nn.Module):
    """MAB(Q, K) = LN(H + rFF(H)), H = LN(Q + attention(Q, K, K))."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, 0.1, batch_first=True)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.forward_layer = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, query: Tensor, key: Tensor, hidden: Tensor | None) -> Tensor:
        seen = self.attention(query, key, key, key_padding_mask=hidden, need_weights=False)[0]
        h = self.first(query + seen)
        return self.second(h + self.forward_layer(h))


def rank_before(batch: Batch) -> Tensor:
    """[B, N] place in the retriever's order."""
    score = batch.candidate_score.masked_fill(~batch.candidate_mask, -torch.inf)
    return score.argsort(dim=1, descending=True, stable=True).argsort(dim=1).clamp_max(63)


def attention_loss(scores: Tensor, batch: Batch) -> Tensor:
    """−Σ y log softmax(s) over requests that have a positive; y normalised (both papers)."""
    y = batch.relevance.clamp_min(0) * batch.candidate_mask
    log_p = scores.masked_fill(~batch.candidate_mask, -1e9).log_softmax(-1)
    has = y.sum(-1) > 0
    return -(y * log_p).sum(-1)[has].div(y.sum(-1)[has]).mean()


def plain_ndcg(model: nn.Module, columns: EncodedRequests) -> np.ndarray:
    """ndcg@6 of each request with a positive, linear gain."""
    model.eval()
    out = []
    discount = 1 / torch.log2(torch.arange(SLOTS) + 2.0)
    with torch.no_grad():
        for batch in columns.batches(256):
            y = batch.relevance.clamp_min(0) * batch.candidate_mask
            score = model(batch).masked_fill(~batch.candidate_mask, -torch.inf)
            got = (y.gather(1, score.topk(SLOTS, 1).indices) * discount).sum(1)
            best = (y.topk(SLOTS, 1).values * discount).sum(1)
            out.append((got / best)[best > 0])
    model.train()
    return torch.cat(out).numpy()


def fit_plain(
    model: nn.Module,
    train: EncodedRequests,
    held: EncodedRequests,
    steps: int,
    lr: float,
    seed: int,
) -> nn.Module:
    """Adam; the weights of the best validation, looked at eight times."""
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
                found = float(plain_ndcg(model, held).mean())
                if found > most:
                    most = found
                    kept = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept or model.state_dict())
    return model


def fit_ours(
    name: str, spec, train: EncodedRequests, held: EncodedRequests, steps: int, lr: float, seed: int
):
    """The package's model by the package's loop."""
    loop = {"steps": steps, "batch_size": BATCH, "lr": lr, "validate_every": max(steps // 8, 1)}
    sizes = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "slots": SLOTS}
    config = build_config({"seed": seed, "light": [], "ranker": sizes, "light_loop": loop})
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(Path(folder), progress=False, accelerator="cpu")
        return Job(spec, train, held, config, options).fit_supervised(name, config.light_loop)


def main() -> None:
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
        rows = np.random.default_rng(0).permutation(len(table))[:most]
        parts[part] = table.take(np.sort(rows))
    encoder = Encoder.fit(parts["train"], EncoderConfig(history=20))
    train, held, test = (encoder.encode(parts[part]) for part in ("train", "validation", "test"))
    items = 1 + max(int(part.items.id_row.max()) for part in (train, held, test))
    features = encoder.spec.candidate_features
    rows = []
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
                    check = evaluate({name: model.ranker}, test, slots=SLOTS, metrics=("ndcg",))
                    theirs = float(np.nanmean(check.values[name]["ndcg@6"]))
                    assert abs(theirs - found[kind][0]) < 1e-4, (theirs, found[kind][0])
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
    """A ranker's scores as a module's output."""

    def __init__(self, ranker: nn.Module) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, batch: Batch) -> Tensor:
        return self.ranker.scores(batch)


if __name__ == "__main__":
    main()
