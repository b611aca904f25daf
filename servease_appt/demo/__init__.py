"""What `make demo` and the tests run on: embedded servers, stand-in upstream services and demo data."""
