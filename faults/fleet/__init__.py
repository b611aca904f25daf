"""The service on Redis Sentinel and on Redis Cluster, while their servers fail, lag, move, come and go.

`python -m faults.fleet` runs it.
"""
