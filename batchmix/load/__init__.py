"""load: file → rows → requests. Lazy, and can start at any shard."""

from batchmix.load.dataset import Dataset, open_dataset
from batchmix.load.scan import Scan, ScanOptions, ShardRange

__all__ = ["Dataset", "Scan", "ScanOptions", "ShardRange", "open_dataset"]
