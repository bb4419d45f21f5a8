"""`python -m benchmarks.busy`."""

from benchmarks.busy.busy import main

main()
