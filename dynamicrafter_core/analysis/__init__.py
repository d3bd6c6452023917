"""What the parts of a model do: the same clip again and again, with one thing changed each time."""
