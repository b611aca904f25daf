"""L2: the operations on Redis, for a single server and for a cluster."""
