"""`python -m worker` is `winnow`."""

from worker.entry import main

main()
