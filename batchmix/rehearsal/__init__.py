"""A stand-in provider on loopback that behaves like AiHubMix, and misbehaves on request."""

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.server import Rehearsal, run_server

__all__ = ["Behaviour", "Rehearsal", "run_server"]
