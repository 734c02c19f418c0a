"""What a run leaves: the folder, the log, and what they say."""
