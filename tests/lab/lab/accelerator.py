"""What runs a virtual machine: KVM where it really works, software emulation elsewhere."""

import asyncio
import os
import pathlib
import platform

EMULATION = "tcg,thread=multi,tb-size=512"
# A kernel that KVM runs says its first words, and then that there is no root file system, in a fraction of these.
FIRST_WORDS_SECONDS = 5
PROOF_SECONDS = 15
_found: str | None = None
_once = asyncio.Lock()


async def best(kernel: pathlib.Path) -> str:
    """The value of QEMU's -accel; found out once, by booting this kernel."""
    global _found
    async with _once:
        if _found is None:
            _found = "kvm" if await _kvm_works(kernel) else EMULATION
    return _found


async def _kvm_works(kernel: pathlib.Path) -> bool:
    """/dev/kvm may exist, and run firmware even, and yet not run a kernel: only a kernel's own words count."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    x86 = platform.machine() == "x86_64"
    command = (
        *(f"qemu-system-{platform.machine()}", "-machine", "q35" if x86 else "virt", "-accel", "kvm", "-cpu", "host"),
        *("-m", "256", "-smp", "2", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(kernel), "-append", f"console={'ttyS0' if x86 else 'ttyAMA0'} panic=-1 earlyprintk=ttyS0"),
    )
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(PROOF_SECONDS):
            return await _reaches_its_end(process.stdout)
    except TimeoutError:
        return False
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _reaches_its_end(output: asyncio.StreamReader) -> bool:
    said = await asyncio.wait_for(output.read(4096), FIRST_WORDS_SECONDS)
    while block := await output.read(4096):
        said += block
        if b"Kernel panic - not syncing: VFS" in said:
            return True
        if b"KVM internal error" in said:
            return False
    return False
