"""Proves afterwards, over the homes of both ends, that nothing overlapped and nobody disagrees.

``ends`` opens homes; ``links`` compares the two ends of each link, ``keys`` what KMEs keep of the same
batches, ``logs`` checks audit logs. Nothing here changes a home, and nothing that is read of pads and
keys leaves the process, not even as a position.
"""
