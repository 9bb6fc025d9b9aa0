"""What the agent costs: ``python -m tests.benchmarks`` prints all figures beside budgets and peers."""
