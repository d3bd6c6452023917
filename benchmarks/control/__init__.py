"""What the controls do to the embedded model's clips, and what they cost."""
