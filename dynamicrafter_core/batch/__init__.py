"""Many clips from a list of jobs, on this machine or on a Ray cluster."""
