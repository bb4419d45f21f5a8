"""The trained parts of a method and their sizes: what a configuration and a pack share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lpt.config.bounds import Finite
from lpt.config.rules import used_if, used_unless

MOST = 1_000_000
"""Largest accepted size."""

GROUPED = used_if("model.prompts", "grouped", reason="{path} is {value}, and only LPT's grouped prompts use it")
"""The rule of settings of LPT alone."""
PHASE_2 = used_unless("train.phase2.epochs", 0, reason="there is no phase 2 ({path} is {value})")
"""The rule of settings of phase 2."""
HAS_ADAPTER = used_unless("adapter_size", 0, reason="there is no adapter ({path})")
"""The rule of settings of an adapter."""


class Architecture(BaseModel):
    """The trained parts: prompts, adapters, LoRA, weights of the backbone, and the head."""

    model_config = ConfigDict(extra="forbid")

    prompts: Literal["grouped", "deep", "shallow", "none"] = Field(
        "grouped",
        description="grouped: LPT's shared and group prompts. deep: a prompt for every block. shallow: a prompt before "
        "block 1.",
    )
    prompt_length: Annotated[int, used_unless("prompts", "none")] = Field(
        10, ge=0, le=MOST, description="Prompt tokens per block, P."
    )
    shared_blocks: Annotated[int | None, GROUPED] = Field(
        None, ge=0, le=MOST, description="Blocks that see only the shared prompt, K. Default: half of the blocks."
    )
    pool_size: Annotated[int, GROUPED] = Field(20, ge=1, le=MOST, description="Group prompts in the pool, M.")
    top_k: Annotated[int, GROUPED, PHASE_2] = Field(
        2, ge=1, le=MOST, description="Group prompts picked for an image, k."
    )
    query: Annotated[Literal["full", "prefix"], GROUPED, PHASE_2] = Field(
        "full",
        description="Where the query is taken. full: the class token after all blocks, as published. prefix: after "
        "block K, so that inference takes one pass.",
    )
    adapter_size: Annotated[int, Field(ge=0, le=MOST)] = Field(
        0, description="Width of the bottleneck of an adapter (AdaptFormer) beside every MLP. 0: no adapters."
    )
    adapter_norm: Annotated[bool, HAS_ADAPTER] = Field(False, description="Give each adapter its own LayerNorm.")
    adapter_scale: Annotated[Finite | None, HAS_ADAPTER] = Field(
        0.1, description="Factor on the output of an adapter. null: learnt, starting at 1."
    )
    lora_rank: int = Field(
        0, ge=0, le=MOST, description="Rank of LoRA on the projections of the attention (needs peft). 0: no LoRA."
    )
    weights: Literal["none", "biases", "last_blocks", "all"] = Field(
        "none", description="Which of the backbone's own weights train."
    )
    last_blocks: Annotated[int, used_if("weights", "last_blocks")] = Field(
        2, ge=1, le=MOST, description="Number of last blocks to train."
    )
    head: Literal["cosine", "linear"] = Field("cosine", description="Classifier on the class token's features.")

    @property
    def grouped(self) -> bool:
        """Whether the method is LPT: a shared prompt and a pool of group prompts, trained in two phases."""
        return self.prompts == "grouped"

    @model_validator(mode="after")
    def _check_architecture(self) -> Architecture:
        if self.top_k > self.pool_size:
            raise ValueError(f"top_k ({self.top_k}) must not exceed pool_size ({self.pool_size})")
        if self.query == "prefix" and self.shared_blocks == 0:
            raise ValueError("query prefix needs shared_blocks of at least 1 (before block 1 all images look the same)")
        refused = {"lora_rank": self.lora_rank, "weights": self.weights != "none", "head": self.head != "cosine"}
        faults = [f"{name} {getattr(self, name)}" for name, differs in refused.items() if differs]
        if self.grouped and faults:
            raise ValueError(
                "prompts: grouped (LPT) has a cosine head, and no LoRA or weights of the backbone that train; got "
                + ", ".join(faults)
            )
        return self
