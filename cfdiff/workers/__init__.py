"""Who computes the pieces of a run: this process, or others on this machine or a cluster."""
