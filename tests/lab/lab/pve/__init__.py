"""The Proxmox VE API of the lab: fakepve's, with machines, disks and files behind it.

fakepve is used as it is, by subclassing; each module here is one concern laid over it.
Where its behaviour and a real host's differ, ours follows the real one.
"""

from .api import LabPve

__all__ = ["LabPve"]
