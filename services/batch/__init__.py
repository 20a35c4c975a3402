"""Scores archives: folders, lists, tar files and films, on one machine or a Ray cluster."""
