"""The rules of the workshop's calendar: no SQL, no HTTP, nothing but the standard library."""
