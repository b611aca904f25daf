"""Lists from the primary or a replica: each user reads their own writes, and nothing older than allowed."""
