"""What a model does, not what shape it has: every claim about its behaviour, measured on pictures it was never trained on."""
