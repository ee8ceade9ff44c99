"""The origin of every result: one record per job, and the audit that follows them from a number to the images."""
