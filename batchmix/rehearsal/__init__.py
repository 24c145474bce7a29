"""rehearsal: a stand-in provider on loopback that behaves like AiHubMix and can play faults. Imports no other room.

A request is read (`request`), gets a kind of reply (`provider`, `reply_table`), and the reply is built (`bodies`,
`streams`, `oddities`) and sent (`delivery`, `server`).
"""

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.server import Rehearsal, run_server

__all__ = ["Behaviour", "Rehearsal", "run_server"]
