"""Pure functions over bytes: what skex computes with secrets, and nothing about what the secrets are for.

``gf256`` and ``sharing`` split and rebuild secrets; ``ghash`` and ``tag`` make the end-to-end tag that
a lying hub cannot meet; ``mac``, ``kdf``, ``aead`` and ``keystream`` name the few standard primitives
in the one form in which each is used. Randomness and nonces are parameters. Nothing here knows of
messages, links, files or clocks; the only imports of skex are from ``skex.base``.

**Constant time, and how far CPython goes.** Wherever a secret is an operand of our own arithmetic
(``gf256``, ``sharing``, ``ghash``, ``tag``) there is no branch on it, no table indexed by it, and no
early exit; coordinates, lengths and positions are public and may steer. The operands are Python's big
integers, whose routines loop over the number of digits; an integer drops leading zero digits, so each
operand that holds a secret carries a *guard*: a bit above the secret that is always set, so that its
number of digits depends on lengths only. What is left is the interpreter's own: memory that it copies
and does not clear, caches, and carry branches inside one digit. Poly1305, HMAC, HKDF and AES are
OpenSSL's, through ``cryptography``.
"""
