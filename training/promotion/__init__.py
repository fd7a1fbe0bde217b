"""What `promote` and `rollback` share: the gate, the lease, the wait for the rankers, and records of past decisions."""
