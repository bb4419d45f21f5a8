"""Open labelled images in the forms in which people have them.

A folder of class folders, a CSV, TSV or JSONL table, a `path label` list, or a Hugging Face data set: each form has
its reader, which returns a `raw.RawData`; `opening` turns that into the `Splits` of a run.
"""

from lpt.data.sources.opening import OpenedImages, listing_root, open_images, open_splits

__all__ = ["OpenedImages", "listing_root", "open_images", "open_splits"]
