"""What daemons keep across starts: one SQLite file each, and everything secret in it sealed.

``kme`` and ``hub`` are the two stores; they make ``protocol.changes`` durable, whole sets at a time,
and hand back at a start what the machines need. Beneath them: ``database`` (the file, transactions,
migrations, faults), ``sealing`` (secrets at rest), ``moments`` (how old a row is), and one module for
each group of tables. Nothing here decides anything about keys, links or peers; what must never happen
twice is refused here once more, in case a layer above has a bug.
"""
