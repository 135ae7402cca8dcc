"""The lab: a Proxmox VE to try everything on without one.

`fakepve` answers the API; this package keeps disks and uploaded files for real and makes every started VM a
machine. Start reading at `daemon.py`, which puts the parts together.
"""
