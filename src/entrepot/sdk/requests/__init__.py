"""What can be asked of a server, one file for each noun: functions that make a ``Call``, and send nothing."""
