"""From the data file to trained weights, and what reads them back."""
