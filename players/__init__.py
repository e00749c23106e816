"""What plays runs: threads that take queued runs, and what answers in them."""
