"""`python -m lpt`, which is also how launchers start it: `torchrun --nproc_per_node 2 -m lpt fit ...`."""

from lpt.cli import main

main()
