"""How fast the lab is, measured: ``python -m benchmarks`` prints it and writes docs/benchmarks.md.

Nothing here is a test: numbers depend on the machine. Everything runs in namespaces made for it.
"""
