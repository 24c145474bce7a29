"""Metrics of several samples of each row, from arrays: pass@k, pass^k and majority@k.

`scores` are float64, one for each result, without NaN. `rows` are the numbers of their input rows, in ascending order.
Rows with fewer than k samples are left out of the metrics at k.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from batchmix.statistics.metrics import Floats, Ints, all_zero_or_one, cluster_sums, first_positions

_KS = (1, 2, 5, 10, 20, 50, 100)
"""The k for which the metrics are reported, up to the number of samples. That number itself is added."""
_MAX_PAIRS = 20_000_000
"""The most pairs of samples that are compared at once, which bounds the memory."""


def pass_at(scores: Floats, rows: Ints) -> dict[int, float]:
    """Return pass@k for several k: the probability that at least one of k samples is right.

    Empty if rows have only one sample, or if a score is neither 0 nor 1. The estimate is the unbiased one of Chen et
    al., "Evaluating Large Language Models Trained on Code" (2021), equation 1: the mean over rows of
    1 - C(n - c, k) / C(n, k), if c of n samples are right.
    """
    return _over_rows(scores, rows, lambda n, c, k: 1 - math.comb(n - c, k) / math.comb(n, k))


def pass_all(scores: Floats, rows: Ints) -> dict[int, float]:
    """Return pass^k for several k: the probability that all of k samples are right.

    Empty if rows have only one sample, or if a score is neither 0 nor 1. The estimate is the unbiased one of Yao et
    al., "tau-bench" (2024), section 3: the mean over rows of C(c, k) / C(n, k), if c of n samples are right.
    """
    return _over_rows(scores, rows, lambda n, c, k: math.comb(c, k) / math.comb(n, k))


def majority_at(scores: Floats, rows: Ints, answers: Ints) -> dict[int, float]:
    """Return majority@k for several k: the mean score of the answer that is given most often among k samples.

    `answers` has a number for each different answer, and 0 where a sample gives none: it has no vote. Answers that are
    given equally often share the row. Empty if rows have only one sample, or if none gives an answer. The first k
    samples of a row count, which is as good as any k, since they were asked for in the same way (Wang et al.,
    "Self-Consistency", 2023).
    """
    firsts = first_positions(rows)
    samples = np.diff(np.append(firsts, len(rows)))
    if not answers.any():
        return {}
    return {k: float(_majority(scores, answers, firsts[samples >= k], k)) for k in _ks(samples)}


def _majority(scores: Floats, answers: Ints, firsts: Ints, k: int) -> float:
    total = 0.0
    step = max(1, _MAX_PAIRS // (k * k))
    for start in range(0, len(firsts), step):
        places = firsts[start : start + step, None] + np.arange(k)
        given = answers[places]
        votes = np.where(given == 0, 0, (given[:, :, None] == given[:, None, :]).sum(axis=2))
        wins = votes == votes.max(axis=1, keepdims=True)
        total += float(((wins * scores[places]).sum(axis=1) / wins.sum(axis=1)).sum())
    return total / len(firsts)


def _ks(samples: Ints) -> list[int]:
    """Return the k to report, given how many samples each row has. Empty if none has several."""
    most = int(samples.max()) if len(samples) else 0
    return sorted({k for k in _KS if k <= most} | {most}) if most > 1 else []


def _over_rows(scores: Floats, rows: Ints, chance: Callable[[int, int, int], float]) -> dict[int, float]:
    """Return the mean over rows of `chance(n, c, k)` for several k, where c of a row's n samples are right."""
    if not len(scores) or not all_zero_or_one(scores):
        return {}
    samples = np.diff(np.append(first_positions(rows), len(rows)))
    right = cluster_sums(scores, rows).astype(np.int64)
    kinds, counts = np.unique(np.stack([samples, right]), axis=1, return_counts=True)
    rows_of = [(int(n), int(c), int(count)) for (n, c), count in zip(kinds.T, counts, strict=True)]
    means = {}
    for k in _ks(samples):
        enough = [(n, c, count) for n, c, count in rows_of if n >= k]
        means[k] = sum(chance(n, c, k) * count for n, c, count in enough) / sum(count for _, _, count in enough)
    return means
