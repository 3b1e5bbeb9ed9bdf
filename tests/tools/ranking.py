"""How good a ranking is, and collections with known answers."""

import json
import math
import pathlib

K = 10


def gains(relevant):
    """{id: gain} of `relevant`, which is that or a list of ids."""
    return relevant if isinstance(relevant, dict) else {name: 1 for name in relevant}


def ndcg(ranked, relevant, k=K):
    """nDCG at k of ids, best first, with the gains as they are."""
    known = gains(relevant)

    def discounted(values):
        return sum(value / math.log2(place + 2) for place, value in enumerate(values[:k]))
    return discounted([known.get(name, 0) for name in ranked]) / \
        discounted(sorted(known.values(), reverse=True))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def mean_ndcg(rankings, queries, k=K):
    """Of one ranking for each of the queries, which have "relevant"."""
    return mean(ndcg(ranked, query["relevant"], k)
                for ranked, query in zip(rankings, queries, strict=True))


def read_lines(path):
    return [json.loads(line)
            for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines() if line]
