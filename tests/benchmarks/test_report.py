"""The report reads whatever the results folder holds."""

from benchmarks import report


def test_the_targets_of_the_recorded_runs_make_a_table() -> None:
    """Each file there is a part with targets, also one that another measurement has left."""
    _, _, *rows = report.targets_table(quick=False).splitlines()
    assert rows
