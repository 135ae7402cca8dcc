"""Limits of the host that all containers share, raised where they are too low for a few Kubernetes nodes.

They stay raised when the lab ends, for another lab may be there: a limit takes nothing by itself.
"""

import pathlib

WANTED = {"fs/inotify/max_user_instances": 8192, "fs/inotify/max_user_watches": 524288}


def raise_them() -> None:
    for name, wanted in WANTED.items():
        setting = pathlib.Path("/proc/sys", name)
        if int(setting.read_text()) < wanted:
            setting.write_text(f"{wanted}\n")
