"""Classify reviews with lm-deluge."""

import os

import pandas as pd
from lm_deluge import Conversation, LLMClient
from lm_deluge.cache import SqliteCache
from lm_deluge.models import register_model

register_model(
    id="gpt-4o-mini",
    name="gpt-4o-mini",
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key_env_var="OPENAI_API_KEY",
    input_cost=0.15,
    output_cost=0.6,
)
client = LLMClient(
    "gpt-4o-mini",
    max_requests_per_minute=30_000,
    max_tokens_per_minute=500_000_000,
    max_concurrent_requests=100,
    cache=SqliteCache("reviews.db"),
)
reviews = pd.read_csv("reviews.csv")
prompts = [
    Conversation().system("Answer with one word.").user(f"Classify as pos or neg: {text}") for text in reviews["text"]
]
responses = client.process_prompts_sync(prompts)
answers = reviews.assign(answer=[response.completion for response in responses])
answers.to_csv("answers.csv", index=False)
