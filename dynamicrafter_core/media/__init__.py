"""Pictures and videos, in and out."""
