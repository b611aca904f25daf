"""`cache doctor`: look at everything that the cache depends on, and say what to do about what is found."""
