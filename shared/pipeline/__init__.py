"""The stages, one file each, in this order: decode, detect, crop, preprocess, classify."""
