"""The whole of `batchmix run` with long prompts and long answers beside a bare aiohttp loop, and its memory.

The sizes are those of documents: prompts of 20 and 100 KB, as JSON lines and as Parquet, and answers of 31 and 208 KB,
plain and streamed.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.servers import nginx
from tests.benchmarks.speed import PEAK, Load, batchmix, source
from tests.benchmarks.table import Bound, Line


def loads(*, quick: bool) -> list[Load]:
    """Return the loads with long prompts, as JSON lines and Parquet, and with long answers, plain and streamed."""
    share, rounds = (4, 3) if quick else (1, 5)
    prompts = [(20_000, 8_000, 0.85), (100_000, 3_000, 0.75)]
    answers = [(31_000, 8_000, 0.75), (208_000, 2_000, 0.4)]
    return [
        *(
            Load("", 64, rows // share, 0, rounds, Bound("≥", ratio), prompt_bytes=size, parquet=parquet)
            for size, rows, ratio in prompts
            for parquet in (False, True)
        ),
        *(
            Load("", 64, rows // share // (4 if streamed else 1), 0, rounds, Bound("≥", ratio), 0, size, streamed)
            for size, rows, ratio in answers
            for streamed in (False, True)
        ),
    ]


def memory(*, quick: bool) -> Iterator[Line]:
    """Measure the peak memory of long prompts beside that of short ones."""
    rows = 2_000 if quick else 6_000
    with nginx() as server, tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        root = Path(folder)
        peaks = {}
        for parquet, size in itertools.product((False, True), (0, 100_000)):
            rows_file = source(root / f"{size}", rows, size, parquet=parquet)
            peaks[parquet, size] = batchmix(server.url, rows_file, root / "out", 512).peak_mb
    for parquet in (False, True):
        more = peaks[parquet, 100_000] - peaks[parquet, 0]
        name = f"512 in flight, memory for 100 KB{', Parquet' * parquet}"
        yield Line(name, more, " MB", "all of it", peaks[parquet, 100_000], bound=PEAK)
