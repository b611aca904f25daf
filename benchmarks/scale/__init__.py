"""What the cache costs Redis as the number of workers grows: measured with fake listeners, and simulated."""
