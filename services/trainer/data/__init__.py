"""From a source to the data file: images, labels, splits, and where detectors draw their boxes."""
