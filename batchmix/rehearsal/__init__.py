"""rehearsal: an HTTP server on this machine that behaves like AiHubMix and can fail on purpose, for tests and trials.

Each request is read (`request`) and assigned a kind of reply (`provider`, `reply_table`); then the reply is built
(`bodies`, `streams`, `oddities`) and sent (`delivery`, `server`). This package imports no other package of batchmix.
"""

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.server import Rehearsal, run_server

__all__ = ["Behaviour", "Rehearsal", "run_server"]
