"""Classify pictures with a model.onnx of `lpt export PACK`: needs only onnxruntime, numpy and Pillow.

python onnx_predict.py exported/photos/model.onnx PICTURE...
"""

import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reports to its makers unless this is set before the import

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read(path: str, preprocessing: dict) -> np.ndarray:
    """Return a picture as the model takes it: upright, on white, RGB, resized, uint8 [height, width, 3]."""
    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture)
    if upright.mode[0] in "IF":
        sys.exit(f"{path}: it has more than 8 bits: scale it to 8, or classify it with lpt predict")
    rgb = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA")).convert("RGB")
    size = preprocessing["width"], preprocessing["height"]
    return np.asarray(rgb.resize(size, Image.Resampling[preprocessing["interpolation"].upper()]))


def main(model: str, *paths: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    classes = [entry["class"] for entry in json.loads(facts["classes"])]
    for path in paths:
        images = read(path, json.loads(facts["preprocessing"]))[np.newaxis]  # several pictures: np.stack them
        (probabilities,) = session.run(["probabilities"], {"images": images})
        for index in np.argsort(-probabilities[0])[:3]:
            print(f"{path}\t{classes[index]}\t{probabilities[0, index]:.6f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
