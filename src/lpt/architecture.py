"""What of a method is trained, and where it enters the backbone: the sizes that a configuration and a pack share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Architecture(BaseModel):
    """Prompts, adapters, LoRA, weights of the backbone and head, any of which a method may train."""

    model_config = ConfigDict(extra="forbid")

    prompts: Literal["grouped", "deep", "shallow", "none"] = Field(
        "grouped",
        description="grouped: LPT's shared and group prompts; deep: one prompt a block; shallow: one before block 1.",
    )
    prompt_length: int = Field(10, ge=0, description="Prompt tokens per block, P.")
    shared_blocks: int | None = Field(None, ge=0, description="Blocks that see only the shared prompt, K. None: half.")
    pool_size: Annotated[int, Field(ge=1)] = Field(20, description="Group prompts in the pool, M.")
    top_k: Annotated[int, Field(ge=1)] = Field(2, description="Group prompts picked for an image, k.")
    query: Literal["full", "prefix"] = Field(
        "full", description="Query: class token after all blocks (published), or after block K (one-pass inference)."
    )
    adapter_size: Annotated[int, Field(ge=0)] = Field(
        0, description="Numbers in the bottleneck of an adapter (AdaptFormer) beside every MLP. 0: none."
    )
    adapter_norm: bool = Field(False, description="Whether an adapter has a LayerNorm of its own.")
    adapter_scale: float | None = Field(0.1, description="Factor on an adapter's output. None: learnt, from 1.")
    lora_rank: int = Field(0, ge=0, description="Rank of LoRA on the attention's projections (needs peft). 0: none.")
    weights: Literal["none", "biases", "last_blocks", "all"] = Field(
        "none", description="Which of the backbone's own weights train."
    )
    last_blocks: Annotated[int, Field(ge=1)] = Field(2, description="How many blocks `weights: last_blocks` means.")
    head: Literal["cosine", "linear"] = Field("cosine", description="Classifier on the class token's features.")

    @property
    def grouped(self) -> bool:
        """Whether it is LPT: a shared prompt and a pool of group prompts, in two phases."""
        return self.prompts == "grouped"
