"""`python -m kernob`: the command line."""

from kernob.cli import main

main()
