"""The pipeline from bytes to emotions, shared by all programs: no FastAPI and no TensorFlow in here."""
