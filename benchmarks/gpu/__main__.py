"""`python -m benchmarks.gpu`."""

from benchmarks.gpu.gpu import main

main()
