"""What each command does and prints, wing by wing.

A command imports what it needs when it runs: `prepare` needs no Keras, and `--help` needs nothing.
"""
