"""Running the host's programs without blocking the event loop."""

import asyncio
import subprocess


class Failed(Exception):
    """A program ended with an error; the message is its own last words."""


async def run(*argv: object, stdin: bytes | None = None, timeout: float | None = None) -> str:
    """Standard output of a program that must succeed."""
    code, out, err = await run_any(*argv, stdin=stdin, timeout=timeout)
    if code:
        words = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
        raise Failed(f"{' '.join(map(str, argv))}: {words or f'exit code {code}'}")
    return out.decode(errors="replace")


async def run_any(*argv: object, stdin: bytes | None = None, timeout: float | None = None) -> tuple[int, bytes, bytes]:
    """(exit code, output, errors) of a program; it is killed when the caller is cancelled or the time is up."""
    process = await asyncio.create_subprocess_exec(
        *map(str, argv),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin), timeout)
    except (asyncio.CancelledError, asyncio.TimeoutError):
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out, err
