"""The commands of `flask --app wsgi cache`, one file for each purpose."""
