"""The networks, with the released checkpoints' names: UNet, query transformer, autoencoders, CLIP towers."""
