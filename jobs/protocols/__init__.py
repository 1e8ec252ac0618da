"""Published benchmarks' rules, by name: `jobs.evaluate --protocol NAME`.

A protocol is a record (protocol.py). To add one, put it into a file's PROTOCOLS and that file here.
"""

from jobs.protocols import davis, generic, stcn_evaluation, youtube_vos
from jobs.protocols.protocol import Protocol

__all__ = ["PROTOCOLS"]

MODULES = (davis, youtube_vos, generic, stcn_evaluation)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for module in MODULES for protocol in module.PROTOCOLS}
