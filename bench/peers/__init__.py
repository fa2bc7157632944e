"""Winnow beside others: same weights, same messages, same broker, same cores, in one run. See `docs/peers.md`."""


def main() -> None:
    from bench.peers import compare  # what `python -m bench.peers.jars` needs none of

    compare.main()
