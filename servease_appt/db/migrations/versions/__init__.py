"""Each file is a version of the tables: `upgrade(steps)` makes what it adds, where that is missing."""
