"""What of a method is trained, and where it enters the backbone: the sizes that a configuration and a pack share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lpt.config.bounds import Finite

MOST = 1_000_000
"""Largest size that can be asked for."""


class Architecture(BaseModel):
    """Prompts, adapters, LoRA, weights of the backbone and head, any of which a method may train."""

    model_config = ConfigDict(extra="forbid")

    prompts: Literal["grouped", "deep", "shallow", "none"] = Field(
        "grouped",
        description="grouped: LPT's shared and group prompts; deep: one prompt a block; shallow: one before block 1.",
    )
    prompt_length: int = Field(10, ge=0, le=MOST, description="Prompt tokens per block, P.")
    shared_blocks: int | None = Field(
        None, ge=0, le=MOST, description="Blocks that see only the shared prompt, K. None: half."
    )
    pool_size: Annotated[int, Field(ge=1, le=MOST)] = Field(20, description="Group prompts in the pool, M.")
    top_k: Annotated[int, Field(ge=1, le=MOST)] = Field(2, description="Group prompts picked for an image, k.")
    query: Literal["full", "prefix"] = Field(
        "full", description="Query: class token after all blocks (published), or after block K (one-pass inference)."
    )
    adapter_size: Annotated[int, Field(ge=0, le=MOST)] = Field(
        0, description="Numbers in the bottleneck of an adapter (AdaptFormer) beside every MLP. 0: none."
    )
    adapter_norm: bool = Field(False, description="Whether an adapter has a LayerNorm of its own.")
    adapter_scale: Finite | None = Field(0.1, description="Factor on an adapter's output. None: learnt, from 1.")
    lora_rank: int = Field(
        0, ge=0, le=MOST, description="Rank of LoRA on the attention's projections (needs peft). 0: none."
    )
    weights: Literal["none", "biases", "last_blocks", "all"] = Field(
        "none", description="Which of the backbone's own weights train."
    )
    last_blocks: Annotated[int, Field(ge=1, le=MOST)] = Field(
        2, description="How many blocks `weights: last_blocks` means."
    )
    head: Literal["cosine", "linear"] = Field("cosine", description="Classifier on the class token's features.")

    @property
    def grouped(self) -> bool:
        """Whether it is LPT: a shared prompt and a pool of group prompts, in two phases."""
        return self.prompts == "grouped"

    @model_validator(mode="after")
    def _check_architecture(self) -> Architecture:
        if self.top_k > self.pool_size:
            raise ValueError(f"top_k ({self.top_k}) must not exceed pool_size ({self.pool_size})")
        if self.query == "prefix" and self.shared_blocks == 0:
            raise ValueError("query prefix needs shared_blocks of at least 1 (before block 1 all images look the same)")
        refused = {"lora_rank": self.lora_rank, "weights": self.weights != "none", "head": self.head != "cosine"}
        asked = [f"{name} {getattr(self, name)}" for name, differs in refused.items() if differs]
        if self.grouped and asked:
            raise ValueError(
                "prompts: grouped (LPT) has a cosine head, and no LoRA or weights of the backbone that train; got "
                + ", ".join(asked)
            )
        return self
