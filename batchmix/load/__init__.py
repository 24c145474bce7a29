"""load: file → rows → requests. Lazy, and can start at any shard."""

from batchmix.load.dataset import Dataset, open_dataset
from batchmix.load.scan import Cut, Scan, Span

__all__ = ["Cut", "Dataset", "Scan", "Span", "open_dataset"]
