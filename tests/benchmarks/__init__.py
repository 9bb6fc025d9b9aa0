"""What the agent costs: ``python -m tests.benchmarks`` prints each figure beside its budget and the peers'."""
