"""Looking at processes from the outside."""

import subprocess


def descendants(pid: int) -> set[int]:
    """Process ids of the children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for process_id, parent, _ in _listing():
        children.setdefault(parent, []).append(process_id)
    found: set[int] = set()
    to_visit = [pid]
    while to_visit:
        for child in children.get(to_visit.pop(), ()):
            found.add(child)
            to_visit.append(child)
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of these processes that still run; one that has ended and waits to be noticed does not."""
    return {process_id for process_id, _, state in _listing() if process_id in pids and state[0] != "Z"}


def _listing() -> list[tuple[int, int, str]]:
    command = ["ps", "-A", "-o", "pid=,ppid=,stat="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = (line.split() for line in lines)
    return [(int(process_id), int(parent), state) for process_id, parent, state in rows]
