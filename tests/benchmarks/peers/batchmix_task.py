"""Classify reviews with batchmix."""

import pandas as pd

import batchmix as bm

reviews = pd.read_csv("reviews.csv")
run = bm.run(
    reviews,
    "Classify as pos or neg: {{ text }}",
    model="gpt-4o-mini",
    system="Answer with one word.",
    out="runs/sentiment",
    concurrency=100,
)
answers = run.join(reviews, {"answer": "response"})
answers.to_csv("answers.csv", index=False)
