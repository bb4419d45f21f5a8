"""LPT at the sizes of iNaturalist 2018: 437,513 training images of 8,142 classes, from 1,000 to 2 a class.

    HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1 python -m benchmarks.scale

The data set is simulated: manifests and folders of the full size over 2,000 small JPEG files. Every measurement runs in
a process of its own, so that its peak memory is its own; the cost of imports is not counted. It writes
docs/results/scale_inaturalist.json and docs/images/scale.png. `--quick` does everything at a tiny size, as a test.
"""
