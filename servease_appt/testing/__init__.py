"""Real servers, fake upstream services and a fault proxy, for tests, benchmarks and the demo."""
