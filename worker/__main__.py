"""`python -m worker` is `winnow`."""

from worker.cli import main

main()
