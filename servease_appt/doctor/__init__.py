"""`cache doctor`: check everything that the cache depends on, and say what to do about each finding."""
