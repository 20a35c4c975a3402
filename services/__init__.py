"""Mien's two programs: the API that serves a model and the trainer that makes one."""
