"""More than one machine: work orders, leases and results as git refs, and hosts behind a command prefix."""
