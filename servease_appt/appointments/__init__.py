"""The use cases of the appointment service. Each command is one transaction. They know nothing of HTTP."""
