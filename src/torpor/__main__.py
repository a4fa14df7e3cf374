"""`python -m torpor`."""

from torpor.main import main

main()
