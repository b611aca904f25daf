"""Tests of the experiments with faults: what finds a violation must have found one."""
