"""Classify reviews with curator."""

import pandas as pd
from bespokelabs import curator
from datasets import Dataset


class Classifier(curator.LLM):
    def prompt(self, row):
        return f"Classify as pos or neg: {row['text']}"

    def parse(self, row, response):
        return {**row, "answer": response}


classify = Classifier(
    model_name="gpt-4o-mini",
    system_prompt="Answer with one word.",
    backend_params={
        "max_requests_per_minute": 30_000,
        "max_tokens_per_minute": 500_000_000,
        "max_concurrent_requests": 100,
        "require_all_responses": False,
    },
)
reviews = pd.read_csv("reviews.csv")
result = classify(Dataset.from_pandas(reviews))
answers = result.dataset.to_pandas()
answers.to_csv("answers.csv", index=False)
