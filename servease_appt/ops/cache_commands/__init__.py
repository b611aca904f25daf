"""The commands of `flask --app wsgi cache`, one file a purpose."""
