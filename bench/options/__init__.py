"""What can be asked, as typed options: the only home of defaults, choices, checks and their messages."""
