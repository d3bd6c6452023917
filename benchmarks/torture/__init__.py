"""Attempts to break this project: input that is wrong in every way, processes killed at any moment, disks that are full."""
