"""Reading the cache from outside of requests: shared by the commands, the doctor and the dashboard."""
