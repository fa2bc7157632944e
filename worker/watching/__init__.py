"""What a running worker's metrics say: of a moment, of the time between two, and whether it is well.

The worker's own page and `winnow top` show the same view; the one reads the registry, the other the text of `/metrics`.
"""
