"""Rows as other tools write them: known by their columns, with the command that makes them rows to ask about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EACH = "{python} 'import json, sys; [print(json.dumps({each})) for r in {rows}]' < {file} > {jsonl}"
"""A command that writes each of some rows in another form."""
_ANTHROPIC = (
    '{"custom_id": r["custom_id"], "messages": [{"role": "system", "content": s} for s in [r["params"].get("system")]'
    ' if s] + r["params"]["messages"], "max_tokens": r["params"].get("max_tokens")}'
)
_ANTHROPIC_BODY = (
    '{**{k: v for k, v in r.items() if k != "system"}, "messages": [{"role": "system", "content": s} for s in'
    ' [r["system"]] if s] + r["messages"]}'
)
_GEMINI = (
    '{"custom_id": r.get("key"), "messages": [{"role": "assistant" if c.get("role") == "model" else "user", "content":'
    ' "".join(p.get("text", "") for p in c["parts"])} for c in r["request"]["contents"]]}'
)
_BEDROCK = '{"custom_id": r["recordId"], "messages": r["modelInput"]["messages"]}'
_SHAREGPT = (
    '{**r, "messages": [{"role": {"human": "user", "gpt": "assistant"}.get(m["from"], m["from"]),'
    ' "content": m["value"]} for m in r["conversations"]]}'
)
_RESPONSES = '{"custom_id": str(n), "method": "POST", "url": "/v1/responses", "body": r}'


def shape(row: Mapping[str, Any]) -> str | None:
    """Return what a row without messages or prompt is, and how to go on."""
    if row.keys() >= {"model", "messages", "system", "max_tokens"} and isinstance(row["messages"], list):
        return "a request of Anthropic's; make it OpenAI's: " + _command(_ANTHROPIC_BODY)
    if row.keys() & {"messages", "prompt", "body"}:
        return _prompt_shape(row.get("prompt")) if row.get("messages") is None else None
    if isinstance(row.get("params"), dict) and "messages" in row["params"]:
        return "a line of an Anthropic batch; make it OpenAI's: " + _command(_ANTHROPIC)
    if isinstance(row.get("request"), dict) and "contents" in row["request"]:
        return "a line of a Gemini batch; make it OpenAI's: " + _command(_GEMINI)
    if isinstance(row.get("contents"), list):
        return "a request of Gemini's; make it OpenAI's: " + _command(_GEMINI.replace('r["request"]', "r"))
    if isinstance(row.get("modelInput"), dict):
        return "a line of a Bedrock batch; make it OpenAI's: " + _command(_BEDROCK)
    if isinstance(row.get("conversations"), list):
        return "a ShareGPT conversation; make it messages: " + _command(_SHAREGPT)
    if "instruction" in row:
        more = "{% if input %} {{ input }}{% endif %}" if "input" in row else ""
        return "an Alpaca row; ask it by a template: " + f"--prompt '{{{{ instruction }}}}{more}'"
    if {"model", "input"} <= row.keys():
        lines = (
            _command(_RESPONSES).replace("for r in map(", "for n, r in enumerate(map(").replace("stdin)]", "stdin))]")
        )
        return "a bare request of /responses or /embeddings; make it a Batch line, with the url it is for: " + lines
    if isinstance(row.get("response"), dict) and "custom_id" in row:
        return "a line of the output of an OpenAI batch; give the file that the batch was made from"
    return None


def _prompt_shape(prompt: Any) -> str | None:
    if not isinstance(prompt, list) or not prompt:
        return None
    if all(isinstance(item, dict) and "role" in item for item in prompt):
        return "a row whose prompt is a list of messages; call it messages: " + _command(
            '{**{k: v for k, v in r.items() if k != "prompt"}, "messages": r["prompt"]}'
        )
    if all(isinstance(item, str) for item in prompt):
        return "a row whose prompt is a list of texts; give each a row of its own"
    if all(type(item) is int for item in prompt):
        return "a row whose prompt is a list of token ids; chat models are asked by text"
    return None


def _command(each: str) -> str:
    return EACH.replace("{each}", each).replace("{rows}", "map(json.loads, sys.stdin)")
