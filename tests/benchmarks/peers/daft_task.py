"""Classify reviews with Daft."""

import daft
import pandas as pd
from daft import functions

reviews = pd.read_csv("reviews.csv")
table = daft.from_pandas(reviews).into_batches(1)  # all rows of a batch are sent at once, and fail together
table = table.with_column(
    "answer",
    functions.prompt(
        functions.format("Classify as pos or neg: {}", daft.col("text")),
        system_message="Answer with one word.",
        provider="openai",
        model="gpt-4o-mini",
        use_chat_completions=True,
        concurrency=50,  # batches; more at once are slower
        on_error="log",
    ),
)
answers = table.sort("id").to_pandas()
answers.to_csv("answers.csv", index=False)
