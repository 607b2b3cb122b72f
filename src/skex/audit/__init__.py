"""What happened, for people who were not there: append-only records, each chained to the one before.

Events are typed so that no key, pad byte, pad position or passphrase fits into one. Chaining and
checking are pure; a writer that is passed in does the disk's part. There is one way in:
``Audit.emit``.
"""
