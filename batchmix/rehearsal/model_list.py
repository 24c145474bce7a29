"""What the stand-in says about its models, in OpenAI's list and in AiHubMix's catalogue."""

from __future__ import annotations

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.request import Json

_CREATED = 1_700_000_000


def names(behaviour: Behaviour) -> tuple[str, ...]:
    """Return the models that there are, as far as anybody named them."""
    return behaviour.models or tuple(behaviour.own)


def models(behaviour: Behaviour) -> Json:
    """Return the list of `GET /v1/models`."""
    data = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "rehearsal"} for name in names(behaviour)]
    return {"object": "list", "data": data}


def catalogue(behaviour: Behaviour) -> Json:
    """Return the one page of `GET /api/v1/models`; prices are USD per 1M tokens."""
    data = [_entry(name, behaviour.of(name)) for name in names(behaviour)]
    return {"data": data, "message": "", "success": True}


def _entry(name: str, behaviour: Behaviour) -> Json:
    retired = any(behaviour.faults.get(kind) == 1 for kind in ("404_retired", "410"))
    prompt, completion = behaviour.price
    return {
        "model_id": name,
        "desc": "A model of the rehearsal",
        "types": "llm",
        "features": "tools,function_calling,structured_outputs",
        "input_modalities": "text",
        "endpoints": "chat_completions,responses",
        "context_length": 128_000,
        "max_output": 16_384,
        "pricing": {"input": prompt, "output": completion, "cache_read": prompt / 2},
        "retire_stage": "retired" if retired else "",
        "successor_model": behaviour.successor if retired else "",
    }
