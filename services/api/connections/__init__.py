"""Bounds on what one connection may cost besides its requests: uvicorn's protocols, limited."""
