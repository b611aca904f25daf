"""The rules of the calendar: no SQL, no HTTP, nothing but the standard library."""
