"""A camera's path around a picture, and the views along it."""
