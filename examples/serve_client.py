"""Ask a server of `lpt serve` for its predictions, with nothing but Python: many images in one request.

    python examples/serve_client.py http://127.0.0.1:8000 PACK photo.jpg other.png

A token is read from the environment variable LPT_TOKEN.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

TRIES = 5


def classify(url: str, pack: str, images: list[Path], *, top_k: int = 3, token: str = "") -> list[dict[str, Any]]:
    """Return the predictions for images, in their order; a server that is busy is asked again."""
    texts = [base64.b64encode(image.read_bytes()).decode() for image in images]
    request = urllib.request.Request(
        f"{url}/v1/packs/{urllib.parse.quote(pack)}/predict",
        data=json.dumps({"images": texts, "top_k": top_k}).encode(),
        headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
    )
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                predictions: list[dict[str, Any]] = json.load(response)["predictions"]
                return predictions
        except urllib.error.HTTPError as error:
            if error.code != 429 or attempt == TRIES - 1:
                raise
            time.sleep(int(error.headers["Retry-After"]))
    raise AssertionError


def main() -> None:
    url, pack, *paths = sys.argv[1:]
    images = [Path(path) for path in paths]
    try:
        predictions = classify(url, pack, images, token=os.environ.get("LPT_TOKEN", ""))
    except urllib.error.HTTPError as error:
        sys.exit(json.load(error)["error"]["message"])
    for image, prediction in zip(images, predictions, strict=True):
        best = ", ".join(f"{row['class']} {row['probability']:.2f}" for row in prediction["classes"])
        print(f"{image.name}: {best}{' (not sure)' if prediction['unsure'] else ''}")


if __name__ == "__main__":
    main()
