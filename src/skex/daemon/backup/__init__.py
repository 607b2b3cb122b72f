"""Backups of homes: what a machine needs to be itself again, and nothing that could decrypt or be reused.

``container`` is the file, sealed under a passphrase; ``contents`` what stands in it; ``making`` reads a
home, also while its daemon runs; ``restoring`` makes a home of it. Pads, chain states, marks and keys of
any kind are never read here.
"""
