"""CIDEr-D (Vedantam et al., arXiv 1411.5726) as a reward: many candidates, references counted once.

n-grams 1 to 4, sigma 6, times 10, the length penalty on the bigram count: the same formula as
pycocoevalcap's. The tokens are ours (words in lower case), so training needs no Java; what is
reported is always scored by pycocoevalcap itself (models/evaluate_captions.py).
"""

import collections
import math

ORDERS = 4
SIGMA = 6.0


def grams(tokens):
    """A Counter of n-grams for each order."""
    return [
        collections.Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)) for n in range(1, ORDERS + 1)
    ]


class CiderD:
    """References of many pictures; `score(picture, tokens)`."""

    def __init__(self, references):
        """`references`: {picture: [tokens, ...]}."""
        counted = {picture: [grams(tokens) for tokens in several] for picture, several in references.items()}
        self.frequency = [collections.Counter() for _ in range(ORDERS)]
        for several in counted.values():
            for order in range(ORDERS):
                self.frequency[order].update({gram for reference in several for gram in reference[order]})
        self.log_pictures = math.log(max(len(counted), 1))
        self.references = {
            picture: [self.vector(reference) for reference in several] for picture, several in counted.items()
        }

    def vector(self, counts):
        """tf-idf of each order, its length, and the bigram count."""
        weights, lengths = [], []
        for order in range(ORDERS):
            frequency = self.frequency[order]
            weight = {
                gram: count * (self.log_pictures - math.log(max(1.0, frequency[gram])))
                for gram, count in counts[order].items()
            }
            weights.append(weight)
            lengths.append(math.sqrt(sum(v * v for v in weight.values())))
        return weights, lengths, sum(counts[1].values())

    def score(self, picture, tokens):
        """CIDEr-D of one candidate, 0 to 10."""
        weights, lengths, bigrams = self.vector(grams(tokens))
        references = self.references[picture]
        total = 0.0
        for ref_weights, ref_lengths, ref_bigrams in references:
            penalty = math.exp(-((bigrams - ref_bigrams) ** 2) / (2 * SIGMA**2))
            for order in range(ORDERS):
                if lengths[order] and ref_lengths[order]:
                    theirs = ref_weights[order]
                    product = sum(
                        min(weight, theirs[gram]) * theirs[gram] for gram, weight in weights[order].items() if gram in theirs
                    )
                    total += penalty * product / (lengths[order] * ref_lengths[order])
        return 10.0 * total / (ORDERS * len(references))
