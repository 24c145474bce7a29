"""All kinds of scorers. To add one, add a subclass of `ScorerSettings` and name it here."""

from __future__ import annotations

from batchmix.scorers.choices import Choice
from batchmix.scorers.indirect import Custom, Judge
from batchmix.scorers.json_fields import Json
from batchmix.scorers.labels import Labels
from batchmix.scorers.numbers import Number
from batchmix.scorers.texts import Exact, Includes, Regex, Similarity, TokenF1

KINDS = (Exact, Includes, Regex, Number, Choice, Json, Similarity, TokenF1, Custom, Judge, Labels)
"""The kinds of scorers, in the order of the documentation."""
