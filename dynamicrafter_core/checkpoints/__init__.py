"""Files of weights: opened, recognised, checked, loaded, converted."""
