"""What one connection may cost beside its requests: uvicorn's protocols, with bounds."""
