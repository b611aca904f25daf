"""The use cases of the appointment service. Each command is one transaction, whoever calls it."""
