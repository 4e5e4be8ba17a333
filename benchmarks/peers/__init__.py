"""The same scenario done by others, in one run with the lab.

``answer``, ``ask``, ``drive*`` and ``plan`` run in the peers' own environment: they need the
standard library only.
"""
