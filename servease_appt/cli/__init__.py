"""The commands: `flask cache …`, `flask db …`, `flask slots …`."""
