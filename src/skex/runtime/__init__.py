"""Where the pure layers meet the machine: clocks, entropy, tasks, files, sockets, group commit.

Nothing here decides anything about keys; it carries out what the machines ask for, in their order.
"""
