"""The `dynamicrafter` command."""
