"""The two daemons: each composes the layers below and keeps them running; nothing else."""
