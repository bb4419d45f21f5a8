"""Classify images of many tunings of a frozen backbone together, in two passes over its blocks.

The first pass gives the query of each image, and the features of those without group prompts. Images leave it early
whose query is taken after block K. The second pass is for images with group prompts: an image joins it at its block
K+1, so K may differ inside a batch. As many blocks run on each image as alone. Prompts of different lengths are
padded, and a mask hides the padding; adapters of about the same size run as one batched product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from lpt.model.backbone import FrozenViT, QueryKeyValue
from lpt.model.mixed_batch import MixedBatch, joined
from lpt.model.tuning import Tuning

Run = tuple[Tuning, slice]
"""A tuning, and the rows of a batch that use it."""


class MixedOutput(NamedTuple):
    """The output for an image.

    Args:
        scores: cosines or logits, [C] in float32 or wider, on the CPU.
        groups: indices of the picked group prompts by descending cosine.
        attention: attention of the class token to each patch in the last block, [rows, columns]; None unless asked for.
    """

    scores: Tensor
    groups: tuple[int, ...]
    attention: Tensor | None


class Arrival(NamedTuple):
    """Images that join the second pass at a block: their tokens [B, N, D], and their projection if it is there."""

    tokens: Tensor
    projected: QueryKeyValue | None

    def repeated(self, count: int) -> Arrival:
        """Return several copies of the only image."""
        tokens = self.tokens.expand(count, -1, -1)
        if self.projected is None:
            return Arrival(tokens, None)
        return Arrival(tokens, QueryKeyValue(*(part.expand(count, -1, -1, -1) for part in self.projected)))


class Encoded(NamedTuple):
    """The result of the first pass.

    Args:
        features: of the images without group prompts, [B, D].
        queries: of the images with group prompts, [B, D].
        arrivals: what joins the second pass, by block.
        attention: of the images without group prompts, [B, rows, columns]; None unless asked for.
    """

    features: Tensor
    queries: Tensor
    arrivals: dict[int, list[Arrival]]
    attention: Tensor | None

    def repeated(self, count: int) -> Encoded:
        """Return the result for several copies of the only image, which has group prompts."""
        arrivals = {layer: [each.repeated(count) for each in parts] for layer, parts in self.arrivals.items()}
        return self._replace(queries=self.queries.expand(count, -1), arrivals=arrivals)


@torch.inference_mode()
def classify(
    vit: FrozenViT, images: Tensor, tunings: Sequence[Tuning], *, attention: bool = False
) -> list[MixedOutput]:
    """Classify images, each with its tuning; the result does not depend on their order.

    Args:
        vit: the backbone.
        images: normalised, [B, 3, height, width].
        tunings: the tuning of each image. Prompts before the first block must have the same length.
        attention: return the attention of the class token too.
    """
    mix = Mix(vit, tunings)
    encoded = mix.encode(images, attention=attention)
    picks = mix.match(encoded.queries)
    features, second = encoded.features, None
    if picks:
        late, second = mix.finish(encoded, mix.group_prompts(picks), attention=attention)
        features = torch.cat([features, late])
    with torch.autocast(vit.device.type, enabled=False):
        scores = [tuning.scores(features[rows]) for tuning, rows in _runs([tunings[row] for row in mix.rows])]
    maps = [part for part in (encoded.attention, second) if part is not None]
    return _in_order(mix.rows, scores, picks, torch.cat(maps).cpu() if maps else None)


class Mix:
    """The images of a batch in the order of both passes.

    Args:
        vit: the backbone.
        tunings: the tuning of each image.
    """

    def __init__(self, vit: FrozenViT, tunings: Sequence[Tuning]) -> None:
        self._vit = vit
        self._tunings = tunings
        order = sorted(range(len(tunings)), key=lambda row: _place(tunings[row]))
        pools = [tunings[row].pool for row in order]
        self._first = order
        self._plain = sum(pool is None for pool in pools)
        self._full = sum(pool is not None and not pool.prefix for pool in pools)
        self._starts = [0 if pool is None else pool.shared_blocks for pool in pools]
        later = sorted(range(self._plain, len(order)), key=lambda place: self._starts[place])
        self._second = [order[place] for place in later]
        self._later = [place - self._plain for place in later]

    @property
    def rows(self) -> list[int]:
        """Number of the image of each row of the results: those without group prompts first."""
        return [*self._first[: self._plain], *self._second]

    def encode(self, images: Tensor, *, attention: bool = False) -> Encoded:
        """Run the first pass on images [B, 3, height, width], in the order in which they were given."""
        vit, staying = self._vit, self._plain + self._full
        batch = MixedBatch(vit, [self._tunings[row] for row in self._first])
        tokens = batch.begin(_ordered(images, self._first))
        arrivals: dict[int, list[Arrival]] = {}
        early: list[Tensor] = []
        features, seen = tokens[:0, 0], None
        for layer in range(vit.depth):
            active = staying + sum(start > layer for start in self._starts[staying:])
            if active < len(tokens):
                leaving, tokens = tokens[active:], tokens[:active]
                arrivals[layer] = [Arrival(leaving, None)]
                early.insert(0, vit.norm(leaving[:, :1])[:, 0])
            if not active:
                break
            last = layer == vit.depth - 1
            projected = vit.project(layer, tokens, class_token_only=last)
            going = self._rows_from(layer)
            if going.start < going.stop:
                kept = QueryKeyValue(*(part[going] for part in projected))
                arrivals.setdefault(layer, []).insert(0, Arrival(tokens[going], kept))
            if last and attention and self._plain:
                seen = batch.attention(layer, projected)[: self._plain]
            tokens = batch.block(layer, tokens, projected)
            if last:
                features = vit.norm(tokens)[:, 0]
        queries = torch.cat([features[self._plain :], *early])
        return Encoded(features[: self._plain], _ordered(queries, self._later), arrivals, seen)

    def _rows_from(self, layer: int) -> slice:
        """Return the rows of the first pass that begin the second one at a block and stay in the first."""
        starts = self._starts[self._plain : self._plain + self._full]
        first = self._plain + sum(start < layer for start in starts)
        return slice(first, first + starts.count(layer))

    def match(self, queries: Tensor) -> list[Tensor]:
        """Return the picks of the rows of the second pass by runs of the same tuning, each [n, k]."""
        runs = _runs([self._tunings[row] for row in self._second])
        return [
            tuning.pool.cosines(queries[rows]).topk(tuning.pool.top_k, dim=-1).indices
            for tuning, rows in runs
            if tuning.pool is not None
        ]

    def group_prompts(self, picks: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean of the picked prompts by runs, each [n, L-K, P, D]."""
        runs = _runs([self._tunings[row] for row in self._second])
        return [
            tuning.pool.gather(groups)
            for (tuning, _), groups in zip(runs, picks, strict=True)
            if tuning.pool is not None
        ]

    def finish(
        self, encoded: Encoded, prompts: Sequence[Tensor], *, attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Run the second pass; return features [B, D], and the attention [B, rows, columns] if asked for.

        Args:
            encoded: result of the first pass.
            prompts: group prompts by runs, as from `group_prompts`.
            attention: return the attention of the class token too.
        """
        vit = self._vit
        batch = MixedBatch(vit, [self._tunings[row] for row in self._second])
        batch.add_groups(prompts)
        waiting: list[Tensor] = []
        seen = None
        for layer in range(min(encoded.arrivals), vit.depth):
            last = layer == vit.depth - 1
            arrivals = [*(Arrival(tokens, None) for tokens in waiting), *encoded.arrivals.get(layer, [])]
            projections = [
                vit.project(layer, tokens, class_token_only=last) if projected is None else projected
                for tokens, projected in arrivals
            ]
            tokens = joined([arrival.tokens for arrival in arrivals])
            projected = QueryKeyValue(*(joined(parts) for parts in zip(*projections, strict=True)))
            if last and attention:
                seen = batch.attention(layer, projected)
            waiting = [batch.block(layer, tokens, projected)]
        return vit.norm(waiting[0])[:, 0], seen


def _place(tuning: Tuning) -> tuple[int, int, tuple[bool, int], int]:
    """Return where an image stands in the first pass.

    Images without group prompts come first, then those that go all the way, by the block where they join the second
    pass, then those that leave early, the latest first. Equal tunings stand together.
    """
    kind = (False, 0) if tuning.adapters is None else tuning.adapters.kind
    if tuning.pool is None:
        return 0, 0, kind, id(tuning)
    blocks = tuning.pool.shared_blocks
    return (2, -blocks, kind, id(tuning)) if tuning.pool.prefix else (1, blocks, kind, id(tuning))


def _runs(tunings: Sequence[Tuning]) -> list[Run]:
    """Cut rows into runs of the same tuning."""
    runs, start = [], 0
    for _, same in groupby(tunings, key=id):
        count = len(list(same))
        runs.append((tunings[start], slice(start, start + count)))
        start += count
    return runs


def _ordered(rows: Tensor, order: Sequence[int]) -> Tensor:
    """Return rows in an order; no copy if they are in it."""
    if list(order) == list(range(len(rows))):
        return rows
    return rows.index_select(0, torch.tensor(order, device=rows.device))


def _in_order(
    rows: Sequence[int], scores: Sequence[Tensor], picks: Sequence[Tensor], attention: Tensor | None
) -> list[MixedOutput]:
    """Return the results in the order of the images; they come to the CPU in one transfer each."""
    each = [score for table in _on_cpu(scores) for score in table]
    groups = [tuple(row) for table in _on_cpu(picks) for row in table.tolist()]
    groups = [()] * (len(each) - len(groups)) + groups
    outputs: list[MixedOutput | None] = [None] * len(rows)
    for place, row in enumerate(rows):
        outputs[row] = MixedOutput(each[place], groups[place], None if attention is None else attention[place])
    return [output for output in outputs if output is not None]


def _on_cpu(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy tensors of one type to the CPU, together."""
    if not tensors or tensors[0].device.type == "cpu":
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
