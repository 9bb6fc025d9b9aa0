"""What the agent costs: ``python -m tests.benchmarks`` prints all figures next to budgets and peers."""
