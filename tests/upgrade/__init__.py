"""Released versions beside the present one: what they wrote, and their own code."""
