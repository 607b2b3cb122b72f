"""Pads: one direction's one-time material, taken in grants, erased from disk before its first use.

``table`` holds random bytes delivered at enrolment, ``derived`` a one-way chain; ``taking`` has the
one order in which both are marked, erased and only then handed out. ``material`` is what a grant
looks like to the link. Files are reached through the port in ``files`` only. Nothing here knows of
connections, records, peers or the store: whoever calls commits the store's own mark between
``prepare`` and ``finish`` and decides what an alarm means.
"""
