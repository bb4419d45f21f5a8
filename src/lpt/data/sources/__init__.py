"""Opening data in the forms people have it.

A folder of class folders, a CSV, TSV or JSONL table, a `path label` list, or a Hugging Face data set: each form has
its reader, which hands over a `raw.RawData`; `opening` turns that into the `Splits` of a run.
"""

from lpt.data.scan import check_images, missing_files
from lpt.data.sources.opening import FORMS, OpenedImages, listing_root, open_images, open_splits, validation_fraction
from lpt.system.limits import usable_cores

__all__ = [
    "FORMS",
    "OpenedImages",
    "check_images",
    "listing_root",
    "missing_files",
    "open_images",
    "open_splits",
    "usable_cores",
    "validation_fraction",
]
