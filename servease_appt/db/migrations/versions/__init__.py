"""The versions of the tables, one file for each: `upgrade(steps)` creates what is missing of it."""
