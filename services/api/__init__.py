"""Serves the pipeline from bytes to emotions over HTTP and WebSocket."""
