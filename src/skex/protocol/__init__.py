"""The protocol's machines, without I/O: ``handle(event, now)`` returns what the shell must do.

Nothing here awaits, calls back, reads a clock or draws randomness. ``now`` is seconds on the
boot-time clock; random bytes arrive inside events. Machines know messages and changes, not sockets,
stores or files.
"""
