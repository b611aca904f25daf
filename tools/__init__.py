"""What `make` runs besides the tools that it installs."""
