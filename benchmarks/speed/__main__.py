"""`python -m benchmarks.speed`."""

from benchmarks.speed.speed import main

main()
