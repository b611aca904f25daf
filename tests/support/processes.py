"""Properties of processes, seen from outside."""

import os

import psutil

_INHERITED = ("PATH", "COVERAGE_PROCESS_CONFIG")


def bare_environment() -> dict[str, str]:
    """Return the least that a program under test inherits: PATH, and what lets coverage be measured in it."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def descendants(pid: int) -> set[int]:
    """Return the process ids of all descendants of a process; none if it has ended."""
    try:
        return {process.pid for process in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def alive(pids: set[int]) -> set[int]:
    """Return those of these processes that still run; zombies do not count."""
    return {pid for pid in pids if _runs(pid)}


def owner(pid: int) -> int:
    """Return the id of the user that the process runs as."""
    user: int = psutil.Process(pid).uids().effective
    return user


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
