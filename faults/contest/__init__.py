"""A contested booking run over HTTP with kills: many clients want the same times, a replay judges every state."""
