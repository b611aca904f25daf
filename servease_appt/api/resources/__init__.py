"""One module for each group of routes: parse by declaration, call a use case, dump."""
