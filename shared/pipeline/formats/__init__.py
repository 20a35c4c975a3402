"""What a file's header says, read before any decoder sees it, and the file reduced to what its picture needs."""
