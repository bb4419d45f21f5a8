"""The record of classes that were added to a pack without training."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lpt.config.bounds import Scale, Size, Text

Share = Annotated[float, Field(ge=0, le=1)]
Added = Annotated[int, Field(ge=1)]


class KnownPictures(BaseModel):
    """What the classes that were there before lose, on labelled pictures of them.

    Args:
        images: pictures of these classes.
        before: share of them that is right without the new classes.
        after: share of them that is right with the new classes.
    """

    model_config = ConfigDict(extra="forbid")

    images: Size
    before: Share
    after: Share


class Addition(BaseModel):
    """Classes that one `lpt extend` added; they follow those that were there before.

    Their entries in `class_counts` are the pictures that their rows were made of.

    Args:
        classes: number of classes.
        data: where their pictures came from, without folders.
        factor: factor on the scale that a row of so many pictures gets.
        chosen: how the factor was chosen: `on` which pictures, or `by` rule.
        known: what the other classes lose; None: not measured.
    """

    model_config = ConfigDict(extra="forbid")

    classes: Added
    data: Text
    factor: Scale
    chosen: Text
    known: KnownPictures | None = None
