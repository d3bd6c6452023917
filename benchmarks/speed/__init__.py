"""What reuse between steps saves, and how far from the full run it leads: the presets, and everything else that was tried."""
