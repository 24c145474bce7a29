# %% [markdown]
# # From Python and notebooks
#
# `jobs/python.ipynb` and `jobs/python.py` hold the same recipes. They run as they are, with no key and no network:
# `base_url="rehearsal:"` is a stand-in provider on this machine. Leave it out and set `AIHUBMIX_API_KEY` for real
# answers. Each run is a folder below `runs/`, the same as one of the command line.

# %%
import asyncio
import contextlib

import pandas as pd

import batchmix as bm

texts = ["I loved it", "Not for me", "Would buy again", "Broke on the first day", "It is fine"]
reviews = pd.DataFrame({"text": texts, "stars": [5, 2, 5, 1, 3]}, index=["a", "b", "c", "d", "e"])

# %% [markdown]
# ## A table in, the same table back
#
# `run` asks once for each row. The first line of a run in a notebook is its progress, and the run itself shows its
# figures. `join` puts columns of the results beside the rows, in the same order and with the same index.

# %%
run = bm.run(reviews, "Classify: {{ text }}", model="gpt-4o-mini", out="runs/reviews", base_url="rehearsal:")
run

# %%
run.join(reviews, {"answer": "response", "tokens": "completion_tokens"})

# %% [markdown]
# The same call again sends nothing: the answers are in the folder. After a kill or a crash, it sends what is missing;
# `batchmix resume runs/reviews` does so from a shell.

# %%
again = bm.run(reviews, "Classify: {{ text }}", model="gpt-4o-mini", out="runs/reviews", base_url="rehearsal:")
assert again.summary["attempts"] == run.summary["attempts"] == len(reviews)

# %% [markdown]
# ## Few-shot examples, a system message, parameters
#
# Without `out`, the folder is named by a digest of the rows and of all that is asked.

# %%
few = bm.run(
    reviews,
    "{{ text }}",
    model="gpt-4o-mini",
    system="Answer with pos or neg.",
    examples=[("I loved it", "pos"), ("Never again", "neg")],
    params={"temperature": 0, "max_tokens": 5},
    base_url="rehearsal:",
)
few.folder.name

# %% [markdown]
# ## Any table, and any library for the results
#
# DataFrames of pandas and Polars, Arrow tables, datasets of Hugging Face, DuckDB relations, dicts, texts, iterators,
# and paths of files are all input. `scan` reads the results piece by piece.

# %%
words = bm.run((f"word {number}" for number in range(100)), "Define {{ prompt }}.", model="m", base_url="rehearsal:")
words.to_polars(["row", "response"]).head(3)

# %%
sum(batch.num_rows for batch in words.scan(["row"]))

# %% [markdown]
# ## Rows that fail stay rows
#
# One bad row stops nothing. `raise_for_failures` is for programs that can't go on without all answers.

# %%
risky = bm.run(
    [{"text": "I loved it"}, {"text": "[[rehearsal:400]] the provider refuses this row"}],
    "Classify: {{ text }}",
    model="gpt-4o-mini",
    base_url="rehearsal:",
)
risky.failures().to_pylist()

# %%
try:
    risky.raise_for_failures()
except bm.RowsFailed as error:
    print(type(error).__name__, error.run.summary["rejected"])

# %% [markdown]
# ## What would be sent, and what it would cost
#
# `plan` takes the arguments of `run`, and sends nothing.

# %%
prices = {"gpt-4o-mini": {"input": 0.15, "output": 0.6}}  # USD per million tokens, if the gateway lists none
bm.plan(
    (f"word {number}" for number in range(1_000)),
    "Explain {{ prompt }}.",
    model="gpt-4o-mini",
    params={"max_tokens": 50},
    prices=prices,
    base_url="rehearsal:",
)

# %% [markdown]
# ## A few rows first
#
# `canary` sends some random rows, and forecasts what the rest will cost. `go_on` sends the rest.

# %%
look = bm.run(
    (f"word {number}" for number in range(200)),
    "Explain {{ prompt }}.",
    model="gpt-4o-mini",
    canary=20,
    prices=prices,
    base_url="rehearsal:",
)
look.forecast

# %%
look.go_on().summary["ok"]

# %% [markdown]
# ## The next step over the answers of the last
#
# One request for each result of the run before. The template has the columns of the rows, and result columns under
# names of your own.

# %%
step = run.then("Is {{ draft }} a fair answer to {{ text }}?", draft="response")
step.join(run.to_arrow(["text"]), {"verdict": "response"}).num_rows

# %% [markdown]
# ## In asynchronous code
#
# `arun` is `run` with `await`: two runs go on at once here. Cancelling drains: the answers that are on their way are
# kept.


# %%
async def two_prompts():
    call = {"model": "gpt-4o-mini", "base_url": "rehearsal:"}
    return await asyncio.gather(
        bm.arun(reviews, "Classify: {{ text }}", out="runs/one", **call),
        bm.arun(reviews, "Is this a good review? {{ text }}", out="runs/other", **call),
    )


runs = asyncio.run(two_prompts())
[one.status for one in runs]

# %% [markdown]
# ## Scores, and two runs compared
#
# The scorers are those of a job file. Nothing is sent again, except to a model that judges. `diff` pairs the answers to
# the same requests, such as those of two nights.

# %%
tomorrow = bm.run(reviews, "Classify: {{ text }}", model="gpt-4o-mini", out="runs/tomorrow", base_url="rehearsal:")
scorers = [{"kind": "regex", "pattern": "[a-z]"}]
bm.evaluate(run, scorers)

# %%
bm.evaluate(tomorrow, scorers)
bm.diff(run, tomorrow)

# %% [markdown]
# ## Each answer as it comes
#
# `stream` yields each result as soon as it is kept. Breaking off drains and keeps what has come.


# %%
async def first_three():
    seen = []
    results = bm.stream(texts, "Classify: {{ prompt }}", model="gpt-4o-mini", out="runs/stream", base_url="rehearsal:")
    async with contextlib.aclosing(results):
        async for result in results:
            seen.append(result)
            if len(seen) == 3:
                break
    return seen


seen = asyncio.run(first_three())
[result.status for result in seen]

# %% [markdown]
# ## Any run folder
#
# `open` takes a folder that the command line made too, also while it runs there.

# %%
bm.open("runs/stream").go_on().status

# %% [markdown]
# ## A job as a value
#
# `Job` is what a job file says, checked. `to_toml` gives the file, for `batchmix run` and for `batchmix schedule`.

# %%
job = bm.Job("reviews.jsonl", "Classify: {{ text }}", model="gpt-4o-mini", params={"temperature": 0})
print(job.to_toml())
