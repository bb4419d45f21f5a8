"""Long-tailed Prompt Tuning (Dong et al., ICLR 2023): the model owns every trainable tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lpt.errors import ConfigError
from lpt.model.adapters import Adapters
from lpt.model.backbone import FrozenViT, KeyValue, QueryKeyValue
from lpt.model.head import CosineHead
from lpt.model.prompts import GroupPrompts, Matching, SharedPrompt

QUERIES = ("full", "prefix")


class LPTOutput(NamedTuple):
    """The output of phase 2 and of inference.

    Args:
        cosines: cosine of each image with each class, [B, C].
        similarity: sum of the k picked query-key cosines, averaged over the batch, scalar.
        groups: indices of the picked group prompts by descending cosine, [B, k].
    """

    cosines: Tensor
    similarity: Tensor
    groups: Tensor


class Encoded(NamedTuple):
    """The part of an image's computation that is frozen in phase 2 and may be cached.

    Args:
        tokens: image tokens after the first K blocks under the shared prompt, [B, N, D].
        query: the query that picks group prompts, [B, D]; carries no gradient.
    """

    tokens: Tensor
    query: Tensor


class LPT(nn.Module):
    """A frozen backbone with a shared prompt, a pool of group prompts and a cosine head.

    `state_dict()` holds the four trainable tensors and nothing else: `shared.tokens` [L, P, D], `groups.prompts`
    [M, L-K, P, D], `groups.keys` [M, D], `head.weight` [C, D]. With adapters it also holds `adapters.*` [L, ...]. All
    images share the adapters: they train with the shared prompt and act on the query as it does. The backbone is a
    plain attribute, because several models may share it; it follows `to()`, never `train()`.

    Gradients follow `requires_grad`: frozen tensors get no graph. The model draws no random numbers; the caller passes
    the dropout mask of training.

    Args:
        backbone: the frozen Vision Transformer, of L blocks and width D.
        num_classes: classes C.
        prompt_length: prompt tokens per block P; 0 means no prompts.
        shared_blocks: number of first blocks K that see only the shared prompt; None: half of the blocks.
        pool_size: group prompts M.
        top_k: number of group prompts k that an image picks; their mean is used.
        query: the class token that picks them, under the shared prompt: after all blocks (`full`, as published), or
            after block K and the final norm (`prefix`). `prefix` costs nothing: inference is then one pass.
        adapters: adapters beside every MLP (not in the paper); None: none.

    Raises:
        ConfigError: a size is out of range.

    Example:
        >>> model = lpt.model.LPT(lpt.load_backbone("lpt-demo-glyphs"), num_classes=3)
        >>> output = model(torch.zeros(4, 3, 32, 32))
        >>> output.cosines.shape, output.groups.shape
        (torch.Size([4, 3]), torch.Size([4, 2]))
        >>> sorted(model.state_dict())
        ['groups.keys', 'groups.prompts', 'head.weight', 'shared.tokens']
    """

    def __init__(
        self,
        backbone: FrozenViT,
        num_classes: int,
        prompt_length: int = 10,
        shared_blocks: int | None = None,
        pool_size: int = 20,
        top_k: int = 2,
        query: str = "full",
        adapters: Adapters | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(backbone, FrozenViT):
            raise ConfigError(f"backbone must be a FrozenViT, got {type(backbone).__name__}: wrap it, FrozenViT(vit)")
        depth, width = backbone.depth, backbone.width
        shared_blocks = depth // 2 if shared_blocks is None else shared_blocks
        check_sizes(depth, num_classes, prompt_length, shared_blocks, pool_size, top_k)
        check_query(query, shared_blocks)
        self.backbone: FrozenViT
        object.__setattr__(self, "backbone", backbone)  # not a submodule: not saved or trained with this model
        self.shared_blocks = shared_blocks
        self.top_k = top_k
        self.query_kind = query
        self.shared = SharedPrompt(depth, prompt_length, width)
        self.groups = GroupPrompts(pool_size, depth - shared_blocks, prompt_length, width)
        self.head = CosineHead(num_classes, width)
        self.adapters = adapters

    @property
    def shared_parts(self) -> list[nn.Module]:
        """Modules that all images share: trained in phase 1, frozen in phase 2."""
        return [self.shared] if self.adapters is None else [self.shared, self.adapters]

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> LPT:
        self.backbone._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        super()._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    @torch.no_grad()
    def query(self, images: Tensor) -> Tensor:
        """Return the query that picks group prompts, [B, 3, height, width] -> [B, D]; carries no gradient."""
        return self.encode(images).query

    def encode_shared(self, images: Tensor) -> Tensor:
        """Return class-token features under the shared prompt only, [B, 3, height, width] -> [B, D]."""
        shared = self.shared_constants()
        tokens = self._prefix(images, shared)
        return self._suffix(tokens, self._project(tokens), shared, None)

    def forward_shared(self, images: Tensor, *, feature_mask: Tensor | None = None) -> Tensor:
        """Classify under the shared prompt only, as in phase 1.

        Args:
            images: [B, 3, height, width].
            feature_mask: factor on the features (dropout), [B, D].

        Returns:
            Cosines [B, C].
        """
        return self.head(_masked(self.encode_shared(images), feature_mask))

    def forward(
        self,
        images: Tensor,
        *,
        feature_mask: Tensor | None = None,
        constants: list[KeyValue] | None = None,
    ) -> LPTOutput:
        """Classify under the shared prompt and the picked group prompts, as in phase 2 and inference.

        The query and the final pass share the first K blocks, and the queries, keys and values of image tokens in block
        K+1. Each runs once.

        Args:
            images: [B, 3, height, width].
            feature_mask: factor on the features (dropout), [B, D].
            constants: result of `shared_constants()`, if the caller keeps it.
        """
        shared = self.shared_constants() if constants is None else constants
        tokens = self._prefix(images, shared)
        projected = self._project(tokens)
        return self._classify(tokens, projected, self._query(tokens, projected, shared), shared, feature_mask)

    def encode(self, images: Tensor, *, constants: list[KeyValue] | None = None) -> Encoded:
        """Run the part of `forward` that does not depend on group prompts, keys and head.

        Args:
            images: [B, 3, height, width].
            constants: result of `shared_constants()`, if the caller keeps it.
        """
        shared = self.shared_constants() if constants is None else constants
        tokens = self._prefix(images, shared)
        return Encoded(tokens, self._query(tokens, None, shared))

    def classify(
        self,
        encoded: Encoded,
        *,
        feature_mask: Tensor | None = None,
        constants: list[KeyValue] | None = None,
    ) -> LPTOutput:
        """Run the rest of `forward`: matching, blocks K+1..L and head.

        Args:
            encoded: result of `encode`, fresh or cached; tokens of another precision are converted.
            feature_mask: factor on the features (dropout), [B, D].
            constants: result of `shared_constants()`, if the caller keeps it.
        """
        shared = self.shared_constants() if constants is None else constants
        tokens = encoded.tokens.to(self.backbone.dtype)
        return self._classify(tokens, self._project(tokens), encoded.query, shared, feature_mask)

    def classify_under(self, encoded: Encoded, group: Tensor, *, constants: list[KeyValue] | None = None) -> Tensor:
        """Return the cosines under given group prompts, [B, C]; nothing is picked.

        Args:
            encoded: result of `encode`.
            group: a group prompt for each image, [B, L-K, P, D].
            constants: result of `shared_constants()`, if the caller keeps it.
        """
        shared = self.shared_constants() if constants is None else constants
        tokens = encoded.tokens.to(self.backbone.dtype)
        return self.head(self._suffix(tokens, self._project(tokens), shared, group))

    def shared_constants(self) -> list[KeyValue]:
        """Return the keys and values of the shared prompt in every block, each [H, P, d]."""
        tokens = self.shared.tokens
        return [self.backbone.prompt_key_value(layer, tokens[layer]) for layer in range(self.backbone.depth)]

    def _prefix(self, images: Tensor, shared: list[KeyValue]) -> Tensor:
        """Return the image tokens after the first K blocks, [B, N, D]."""
        tokens = self.backbone.embed(images)
        for layer in range(self.shared_blocks):
            tokens = self.backbone.block(layer, tokens, [shared[layer]], adapters=self.adapters)
        return tokens

    def _project(self, tokens: Tensor) -> QueryKeyValue:
        """Return queries, keys and values in block K+1 for image tokens [B, N, D] after block K."""
        layer = self.shared_blocks
        return self.backbone.project(layer, tokens, class_token_only=layer == self.backbone.depth - 1)

    @torch.no_grad()
    def _query(self, tokens: Tensor, projected: QueryKeyValue | None, shared: list[KeyValue]) -> Tensor:
        """Return the query of image tokens after block K, [B, N, D] -> [B, D]; `projected` is their `_project`."""
        if self.query_kind == "prefix":
            return self.backbone.norm(tokens[:, :1])[:, 0]
        return self._suffix(tokens, self._project(tokens) if projected is None else projected, shared, None)

    def _suffix(self, tokens: Tensor, projected: QueryKeyValue, shared: list[KeyValue], group: Tensor | None) -> Tensor:
        """Return class-token features after blocks K+1..L and the norm, [B, N, D] -> [B, D].

        `projected` belongs to block K+1. `group` holds the group prompt of each image, [B, L-K, P, D]; None: use the
        shared prompt only.
        """
        first, last = self.shared_blocks, self.backbone.depth - 1
        for layer in range(first, self.backbone.depth):
            prompts = [shared[layer]]
            if group is not None:
                prompts.append(self.backbone.prompt_key_value(layer, group[:, layer - first]))
            tokens = self.backbone.block(
                layer,
                tokens,
                prompts,
                class_token_only=layer == last,
                projected=projected if layer == first else None,
                adapters=self.adapters,
            )
        return self.backbone.norm(tokens)[:, 0]

    def _classify(
        self,
        tokens: Tensor,
        projected: QueryKeyValue,
        query: Tensor,
        shared: list[KeyValue],
        feature_mask: Tensor | None,
    ) -> LPTOutput:
        """Match the query [B, D], run blocks K+1..L on tokens [B, N, D], and apply the head."""
        matching = self.groups.match(query, self.top_k)
        features = self._suffix(tokens, projected, shared, self.groups.gather(matching.groups))
        return LPTOutput(self.head(_masked(features, feature_mask)), _similarity(matching), matching.groups)


def _masked(features: Tensor, mask: Tensor | None) -> Tensor:
    return features if mask is None else features * mask


def _similarity(matching: Matching) -> Tensor:
    return matching.cosines.sum(dim=-1).mean()


def check_query(query: str, shared_blocks: int) -> None:
    """Check the kind of the query.

    Raises:
        ConfigError: it is unknown, or no block comes before it.
    """
    if query not in QUERIES:
        raise ConfigError(f"query must be one of {', '.join(QUERIES)}, got {query!r}")
    if query == "prefix" and shared_blocks == 0:
        raise ConfigError(
            "query 'prefix' needs shared_blocks of at least 1: before the first block the class token is the same for "
            "every image"
        )


def check_sizes(
    depth: int, num_classes: int, prompt_length: int, shared_blocks: int, pool_size: int, top_k: int
) -> None:
    """Check the sizes of an LPT on a backbone of `depth` blocks.

    Raises:
        ConfigError: a size is out of range.
    """
    faults = []
    if num_classes < 2:
        faults.append(f"num_classes must be at least 2, got {num_classes}")
    if prompt_length < 0:
        faults.append(f"prompt_length must be at least 0, got {prompt_length}")
    if not 0 <= shared_blocks < depth:
        faults.append(f"shared_blocks must lie in 0..{depth - 1} for a backbone of {depth} blocks, got {shared_blocks}")
    if top_k < 1:
        faults.append(f"top_k must be at least 1, got {top_k}")
    if pool_size < top_k:
        faults.append(f"pool_size must be at least top_k ({top_k}), got {pool_size}")
    if faults:
        raise ConfigError("; ".join(faults))
