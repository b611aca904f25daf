"""What commands, doctor and dashboard share: a look at the cache from outside of the request path."""
