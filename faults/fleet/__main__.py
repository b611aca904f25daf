"""`python -m faults.fleet`: run these faults, print the tables and write them into docs/faults.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from faults import broken, experiment, report
from faults.experiment import Fault, Result
from faults.fleet import cluster, host_servers, hosts, hosts_cluster, namespaces, sentinel
from faults.testbed import Testbed

WORKERS = 3
TOPOLOGIES: dict[str, tuple[type[Testbed], Sequence[Fault]]] = {
    "sentinel": (sentinel.SentinelTestbed, sentinel.FAULTS),
    "cluster": (cluster.ClusterTestbed, cluster.FAULTS),
    "hosts": (host_servers.HostsTestbed, hosts.FAULTS),
    "hosts-cluster": (hosts_cluster.HostsClusterTestbed, hosts_cluster.FAULTS),
}
NEED_HOSTS = ("hosts", "hosts-cluster")
"""The topologies of several hosts, which need network namespaces."""


def main() -> int:
    """Run the faults. Returns the exit code: 0 if every promise was kept, 1 if not, 2 for wrong usage.

    A build without a protection is expected to break a promise: then 0 and 1 have changed places.
    """
    given = _arguments()
    no_hosts = namespaces.why_not()
    if no_hosts is None:
        namespaces.enter("faults.fleet")
    if given.broken is not None:
        broken.apply(given.broken)
    kept = True
    for section, (testbed, faults) in TOPOLOGIES.items():
        wanted = [fault for fault in faults if not given.only or fault.name in given.only]
        if not wanted:
            continue
        if no_hosts is not None and section in NEED_HOSTS:
            names = ", ".join(fault.name for fault in wanted)
            print(f"NOT RUN, since there are no network namespaces ({no_hosts}): {names}", file=sys.stderr)
            continue
        results = _run(testbed(workers=WORKERS, broken=given.broken), wanted, given.history)
        print(f"{report.table(results)}\n")
        if given.keep or not (given.only or given.broken):
            report.keep_table(section, results, again=bool(given.only))
        kept = kept and all(result.kept for result in results)
    return 0 if kept is (given.broken is None) else 1


def _run(testbed: Testbed, faults: Sequence[Fault], history: Path | None) -> list[Result]:
    results = []
    with testbed:
        for fault in faults:
            path = history / f"{fault.name}.jsonl" if history else None
            result = experiment.run(testbed, fault, path)
            verdict = "kept" if result.kept else f"BROKEN: {'; '.join(result.broken)}"
            print(f"{time.strftime('%H:%M:%S')} {result.fault}: {verdict}", file=sys.stderr, flush=True)
            results.append(result)
        if history:
            (history / f"{faults[0].group.lower()}.log").write_text(testbed.read_log())
    return results


def _arguments() -> argparse.Namespace:
    names = [fault.name for _, faults in TOPOLOGIES.values() for fault in faults]
    parser = argparse.ArgumentParser(
        prog="python -m faults.fleet", description="Break Redis Sentinel and Redis Cluster under the service."
    )
    add = parser.add_argument
    add("--only", action="append", choices=names, metavar="FAULT", help="this one alone; may be given again")
    add("--keep", action="store_true", help="with --only: replace these rows in the tables")
    add("--history", type=Path, metavar="DIRECTORY", help="keep the histories as JSON lines")
    add(
        "--broken",
        choices=sorted(broken.BREAKS),
        metavar="PROTECTION",
        help=f"try a build without it, one of {', '.join(sorted(broken.BREAKS))}",
    )
    given = parser.parse_args()
    if given.history:
        given.history.mkdir(parents=True, exist_ok=True)
    return given


if __name__ == "__main__":
    sys.exit(main())
