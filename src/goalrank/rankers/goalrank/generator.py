"""The GoalRank policy: an autoregressive pointer over candidates that are encoded once.

Source: GoalRank (arXiv 2509.22046), section on the generator, which allows any sequence generator.
A decoding step costs one small network, one product with the candidates, and the prefix parts of
the candidate just placed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import distinct, gumbel, request_salt
from goalrank.rankers.base import Choose, Ranker, at_next, greedy_log_prob, open_slot
from goalrank.rankers.goalrank.pointer_decoder import Memory, PointerDecoder, PrefixState
from goalrank.rankers.goalrank.single_request import greedy_single_request, is_single_request
from goalrank.rankers.initial_order import known_candidates
from goalrank.rankers.step_policy import remaining_cross_entropy
from goalrank.requests import Batch, InputSpec


class Generator(Ranker):
    """GoalRank's one model: encoder once per request, pointer decoder over its candidates.

    Args:
        spec: input sizes.
        sizes: of the encoder.
        slots: L for which slot vectors are trained; longer lists share the last one's.
        ratio: width of the decoder's network over D.
        beam: 1 decodes greedily; W > 1 keeps the W most probable prefixes.
    """

    stepwise = True
    has_beam_search = True
    has_graph = True

    def __init__(
        self, spec: InputSpec, sizes: EncoderSizes, slots: int = 6, ratio: int = 2, beam: int = 1
    ) -> None:
        super().__init__()
        self.beam = beam
        self.wide = Wide(spec)
        self.encoder = RequestEncoder(spec, sizes)
        self.decoder = PointerDecoder(sizes.width, slots, sizes.dropout, ratio)

    def encode(self, batch: Batch) -> Memory:
        """Compute the keys, values and biases of the candidates, once per request."""
        encoded = self.encoder(batch)
        wide = self.wide(batch, encoded.plain).squeeze(-1)
        return self.decoder.keys_values(
            encoded.candidates, encoded.context, batch.candidate_mask, wide
        )

    def list_log_prob(
        self, state: Memory, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Compute the log-probabilities [B, G] of lists [B, G, L] in one pass over all slots."""
        logits = self.decoder(state, lists) / temperature
        real = lists >= 0
        # A slot after the list's end may have no candidate left; its -inf must not reach the sum.
        logits = logits.masked_fill(~real.unsqueeze(-1), 0.0)
        at = lists.clamp_min(0).unsqueeze(-1)
        picked = logits.gather(-1, at).squeeze(-1) - logits.logsumexp(-1)
        out: Tensor = (picked * real).sum(-1)
        return out

    def best(self, state: Memory, batch: Batch, slots: int) -> Tensor:
        """Decode the best lists [B, L]: greedily, or by beam search where `beam` is above 1."""
        if self.beam > 1:
            return self.beam_search(state, slots, self.beam)[0][:, 0]
        return self.decode(state, slots).squeeze(1)

    def draw(
        self,
        state: Memory,
        batch: Batch,
        lists: int,
        slots: int,
        rng: torch.Generator,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw lists [B, G, L] from the policy: Gumbel noise is added to each slot's logits."""
        # Gumbel-max at every step draws exactly from the step's softmax.
        salt = request_salt(batch.key, rng)
        names = distinct(batch.candidates)

        def perturb(logits: Tensor, step: int) -> Tensor:
            noise = gumbel(salt, names, lists, step, named=True)
            return torch.add(noise, logits, alpha=1 / temperature)

        return self.decode(state, slots, lists, perturb)

    def next_log_prob(self, state: Memory, batch: Batch, prefix: Tensor) -> Tensor:
        """Compute the log-probability [B, N] of each candidate after a prefix [B, T]."""
        return at_next(self.decoder(state, open_slot(prefix)[:, None])[:, 0, -1])

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Compute at every slot the cross-entropy with the labels still to be placed.

        The prefix is the policy's own greedy list, so that a slot is trained after the prefix that
        it will really have; weights 1/log2(t + 2). Candidates of unknown relevance are left out.
        Source: Seq2Slate (arXiv 1810.02019), the supervised loss.
        """
        return self.supervised_loss(self.encode(batch), batch, slots)

    def supervised_loss(self, state: Memory, batch: Batch, slots: int) -> Tensor:
        """Compute `loss` of an encoded batch, a scalar."""
        known = known_candidates(batch)
        state = replace(state, bias=state.bias.masked_fill(~known, -torch.inf))
        prefix = self.decode(state, slots)
        logits = self.decoder(state, prefix).squeeze(1)
        relevance = batch.relevance.clamp_min(0) * known
        return remaining_cross_entropy(logits, prefix.squeeze(1), relevance)

    @property
    def decodes_greedily(self) -> bool:
        """Whether the best lists are those of `greedy`: True without a beam."""
        return self.beam == 1

    def greedy(
        self, state: Memory, batch: Batch, slots: int, open_to: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode the greedy lists [B, L] and their log-probabilities [B] in double precision."""
        kept: list[Tensor] = []

        def mask_and_keep(logits: Tensor, step: int) -> Tensor:
            if open_to is not None:
                logits = logits.masked_fill(~open_to[:, step].unsqueeze(1), -torch.inf)
            kept.append(logits)
            return logits

        lists = self.decode(state, slots, 1, mask_and_keep).squeeze(1)
        return lists, greedy_log_prob(kept)

    def decode_with(self, state: Memory, batch: Batch, slots: int, choose: Choose) -> Tensor:
        """Fill one list per request slot by slot, [B, L], with a choice made from outside."""

        def only_choice(logits: Tensor, step: int) -> Tensor:
            pick = choose(logits, step).unsqueeze(-1)
            only = torch.full_like(logits, -torch.inf)
            value = torch.where(pick >= 0, 0.0, -torch.inf).to(logits.dtype)
            return only.scatter(-1, pick.clamp_min(0), value)

        return self.decode(state, slots, 1, only_choice).squeeze(1)

    @torch.no_grad()
    def decode(
        self,
        memory: Memory,
        slots: int,
        lists: int = 1,
        perturb: Callable[[Tensor, int], Tensor] | None = None,
    ) -> Tensor:
        """Decode lists [B, G, L] greedily from (perturbed) logits; a step reuses earlier work."""
        b, n = memory.bias.shape
        greedy = lists == 1 and perturb is None and not self.decoder.training
        if greedy and is_single_request(memory):
            found = greedy_single_request(self.decoder, memory, slots)
            return torch.tensor([[found + [-1] * (slots - len(found))]])
        steps = min(slots, n)
        prefix = PrefixState(self.decoder, memory, lists, steps)
        scores = memory.bias[:, None, :].expand(b, lists, n)
        state = prefix.first()
        picks, bests = [], []
        for t in range(steps):
            logits = prefix.point(state, scores)
            if perturb is not None:
                logits = perturb(logits, t)
            best, pick = logits.max(-1)
            picks.append(pick)
            bests.append(best)
            if t + 1 < steps:
                scores = scores.scatter(2, pick.unsqueeze(-1), -torch.inf)
                state = prefix.after(pick, t)
        result = torch.stack(picks, -1).masked_fill(torch.stack(bests, -1).isneginf(), -1)
        return F.pad(result, (0, slots - steps), value=-1) if steps < slots else result

    def beam_search(self, state: Memory, slots: int, width: int) -> tuple[Tensor, Tensor]:
        """Find the W best lists of a beam: lists [B, W, L] and log-probabilities [B, W]."""
        b, n = state.bias.shape
        steps = min(slots, n)
        lists = torch.full((b, 1, slots), -1, dtype=torch.long, device=state.bias.device)
        total = state.bias.new_zeros(b, 1)
        for t in range(steps):
            logits = self.decoder(state, lists[..., : t + 1])[..., t, :]  # [B, W, N]
            ended = torch.isneginf(logits).all(-1, keepdim=True)
            step = logits.log_softmax(-1).masked_fill(ended, -torch.inf)
            # A finished list (no candidate left) goes on as it is, through candidate 0.
            step = torch.where(ended & (torch.arange(n, device=step.device) == 0), 0.0, step)
            scores = (total.unsqueeze(-1) + step).flatten(1)
            keep = min(width, scores.shape[1])
            total, at = scores.topk(keep, -1)
            parent, pick = at // n, at % n
            lists = lists.gather(1, parent.unsqueeze(-1).expand(-1, -1, slots))
            finished = ended.squeeze(-1).gather(1, parent)
            lists[..., t] = pick.masked_fill(finished, -1)
        return lists, total
