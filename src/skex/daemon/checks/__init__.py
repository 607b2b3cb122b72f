"""What ``skex doctor`` looks at. A check looks, says what it found in one sentence, and how to mend it.

To add a check, write a generator of findings beside those it is like and name it in ``checkup``.
Nothing here changes a home.
"""
