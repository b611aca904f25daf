"""The OpenAPI document in the hands of others: a linter, and generated clients in TypeScript and Python."""
