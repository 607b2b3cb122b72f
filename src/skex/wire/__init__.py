"""Bytes on the wire and in files: parse, check, construct; encode beside decode.

Pure functions of their arguments. Nothing here knows keys, clocks, sockets or state machines.
Every decoder bounds lengths before it allocates, refuses leftovers, and is canonical:
``encode(decode(data)) == data`` for whatever it accepts.
"""
