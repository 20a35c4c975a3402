"""Serves the way from bytes to emotions over HTTP."""
