"""The way from bytes to emotions, shared by the API and the trainer: no FastAPI and no TensorFlow in here."""
